/** A line chart over time that can be read with a pointer or with the arrow keys. */

import { html, svg } from "./dom.mjs";
import { roundTop, runs } from "./scale.mjs";

const MARGIN = { top: 10, right: 6, bottom: 22, left: 54 };
const HEIGHT = 150;
const LEVELS = [0, 0.5, 1]; // of the vertical axis, where its numbers stand

export class LineChart {
  #plan;
  #svg;
  #values;
  #when;
  #points = [];
  #now = 0;
  #seconds = 1; // how far the horizontal axis goes back
  #back = null; // how many points before the last the reader looks; null is no reader

  /**
   * @param parent what the chart is put into
   * @param plan {title, note, series: [{name, label}], format, least}: `least` is how far the
   *     vertical axis reaches at least
   */
  constructor(parent, plan) {
    this.#plan = plan;
    this.#svg = svg("svg", { class: "plot", height: HEIGHT, tabindex: 0, role: "slider" });
    this.#svg.setAttribute("aria-label", `${plan.title} over time`);
    this.#values = plan.series.map(() => html("b", "", "–"));
    this.#when = html("span", "when");
    parent.append(this.#figure());
    this.#listen();
    new ResizeObserver(() => this.#paint()).observe(this.#svg);
  }

  draw(points, now, seconds) {
    this.#points = points.filter((point) => point.at >= now - seconds);
    this.#now = now;
    this.#seconds = seconds;
    if (this.#back !== null) this.#back = this.#clamped(this.#back);
    this.#paint();
  }

  #figure() {
    const { title, note, series } = this.#plan;
    const head = html("figcaption", "chart-head");
    const heading = html("h3", "", title);
    heading.append(html("span", "note", note));
    const legend = html("p", "legend");
    series.forEach(({ label }, place) => {
      const entry = html("span", `key line-${place}`, `${label} `);
      entry.append(this.#values[place]);
      legend.append(entry);
    });
    legend.append(this.#when);
    head.append(heading, legend);
    const figure = html("figure", "chart");
    figure.append(head, this.#svg);
    return figure;
  }

  #listen() {
    this.#svg.addEventListener("pointermove", (event) => this.#look(this.#nearest(event.offsetX)));
    this.#svg.addEventListener("pointerleave", () => this.#look(null));
    this.#svg.addEventListener("blur", () => this.#look(null));
    this.#svg.addEventListener("keydown", (event) => {
      const back = this.#back ?? 0;
      const keys = { ArrowLeft: back + 1, ArrowRight: back - 1, Home: Infinity, End: 0 };
      const moved = keys[event.key];
      if (moved === undefined) return;
      event.preventDefault();
      this.#look(this.#clamped(moved));
    });
  }

  #look(back) {
    this.#back = back;
    this.#paint();
  }

  #clamped(back) {
    return Math.min(Math.max(back, 0), Math.max(this.#points.length - 1, 0));
  }

  #nearest(x) {
    if (!this.#points.length) return null;
    const distances = this.#points.map(({ at }) => Math.abs(this.#x(at) - x));
    return this.#points.length - 1 - distances.indexOf(Math.min(...distances));
  }

  #x(at) {
    const width = this.#svg.clientWidth - MARGIN.left - MARGIN.right;
    return MARGIN.left + width * (1 - (this.#now - at) / this.#seconds);
  }

  #y(value, top) {
    return MARGIN.top + (HEIGHT - MARGIN.top - MARGIN.bottom) * (1 - value / top);
  }

  #paint() {
    if (!this.#svg.clientWidth) return; // out of sight
    const { series, least } = this.#plan;
    const known = series.flatMap(({ name }) => this.#points.map((point) => point[name] ?? 0));
    const top = roundTop(Math.max(least, ...known));
    const lines = series.flatMap(({ name }, place) => this.#line(name, place, top));
    this.#svg.replaceChildren(...this.#axes(top), ...lines.reverse(), ...this.#cursor(top));
    this.#tell();
  }

  #axes(top) {
    const right = this.#svg.clientWidth - MARGIN.right;
    const levels = LEVELS.flatMap((level) => {
      const y = this.#y(level * top, top);
      const label = { class: "axis", x: MARGIN.left - 8, y: y + 4, "text-anchor": "end" };
      return [
        svg("line", { class: "level", x1: MARGIN.left, x2: right, y1: y, y2: y }),
        svg("text", label, this.#plan.format(level * top)),
      ];
    });
    const y = HEIGHT - 5;
    const ago = `${Math.round(this.#seconds)} s ago`;
    const begin = svg("text", { class: "axis", x: MARGIN.left, y }, ago);
    const end = svg("text", { class: "axis", x: right, y, "text-anchor": "end" }, "now");
    return [...levels, begin, end];
  }

  #line(name, place, top) {
    return runs(this.#points, name).map((run) => {
      const corners = run.map((point) => `${this.#x(point.at)} ${this.#y(point[name], top)}`);
      const d = `M${corners.join("L")}${run.length === 1 ? "h0.1" : ""}`;
      return svg("path", { class: `line line-${place}`, d });
    });
  }

  #cursor(top) {
    const point = this.#back === null ? undefined : this.#read();
    if (!point) return [];
    const x = this.#x(point.at);
    const bottom = HEIGHT - MARGIN.bottom;
    const dots = this.#plan.series.flatMap(({ name }, place) => {
      if (typeof point[name] !== "number") return [];
      const cy = this.#y(point[name], top);
      return [svg("circle", { class: `line-${place}`, cx: x, cy, r: 3.5 })];
    });
    return [svg("line", { class: "cursor", x1: x, x2: x, y1: MARGIN.top, y2: bottom }), ...dots];
  }

  #read() {
    return this.#points.at(-1 - (this.#back ?? 0));
  }

  /** The values at the reader's place, in the legend and to assistive technology. */
  #tell() {
    const { series, format } = this.#plan;
    const point = this.#read() ?? { at: this.#now };
    const texts = series.map(({ name }) => format(point[name] ?? null));
    texts.forEach((text, place) => (this.#values[place].textContent = text));
    const ago = Math.round(this.#now - point.at);
    const when = ago > 0 && this.#back !== null ? `${ago} s ago` : "now";
    this.#when.textContent = when === "now" ? "" : when;
    const spoken = series.map(({ label }, place) => `${label} ${texts[place]}`).join(", ");
    this.#svg.setAttribute("aria-valuetext", `${when}: ${spoken}`);
    this.#svg.setAttribute("aria-valuemin", -Math.ceil(this.#seconds));
    this.#svg.setAttribute("aria-valuemax", 0);
    this.#svg.setAttribute("aria-valuenow", -ago);
  }
}
