/** The live view of the engine. It asks for /metrics once a second, and only while it is seen. */

import { getText } from "./api.mjs";
import { LineChart } from "./chart.mjs";
import { html } from "./dom.mjs";
import { duration, percent, short } from "./format.mjs";
import { History, KEPT_SECONDS, modelsOf, scraped } from "./history.mjs";
import { parseMetrics } from "./prometheus.mjs";

const EVERY = 1000; // milliseconds
const LEAST_SECONDS = 60; // of the charts, which then grow with what there is to show
const PATIENCE = 8000; // more than the server has with its engine

const TILES = [
  { name: "running", label: "Running", format: short },
  { name: "waiting", label: "Waiting", format: short },
  { name: "kv", label: "KV cache in use", format: percent },
  { name: "output", label: "Tokens per second", format: short },
  { name: "requests", label: "Answers per second", format: short },
  { name: "hits", label: "Prompt found in cache", format: percent },
];

const CHARTS = [
  {
    title: "Throughput",
    note: "tokens per second",
    series: [
      { name: "output", label: "generated" },
      { name: "prompt", label: "prompts" },
    ],
    format: short,
    least: 10,
  },
  {
    title: "Requests",
    note: "at once",
    series: [
      { name: "running", label: "running" },
      { name: "waiting", label: "waiting" },
    ],
    format: short,
    least: 4,
  },
  latency("Time to first token", "firstToken", 0.01),
  latency("Between tokens", "betweenTokens", 0.01),
  latency("Whole answers", "answer", 0.1),
  {
    title: "KV cache",
    note: "share of the pages in use",
    series: [{ name: "kv", label: "in use" }],
    format: percent,
    least: 0.1,
  },
];

/** A chart of a histogram's quantiles; `least` is its top, in seconds, while all is quick. */
function latency(title, name, least) {
  const series = [
    { name: `${name}50`, label: "median" },
    { name: `${name}99`, label: "p99" },
  ];
  return { title, note: "of the last 10 s", series, format: duration, least };
}

export class LiveView {
  #history = new History();
  #watched;
  #section;
  #notice;
  #tiles;
  #charts;
  #watching = false;

  constructor(section) {
    this.#section = section;
    this.#notice = section.querySelector(".notice");
    this.#watched = section.querySelector(".watched select");
    this.#watched.addEventListener("change", () => (this.#history = new History()));
    this.#tiles = TILES.map((tile) => addTile(section.querySelector(".tiles"), tile));
    const grid = section.querySelector(".charts");
    this.#charts = CHARTS.map((plan) => new LineChart(grid, plan));
    document.addEventListener("visibilitychange", () => this.update());
  }

  /** To be called when the view may have come into sight. */
  async update() {
    if (this.#watching) return;
    this.#watching = true;
    while (this.#seen) {
      this.#say(await this.#look());
      this.#draw();
      await new Promise((resolve) => setTimeout(resolve, EVERY));
    }
    this.#watching = false;
  }

  get #seen() {
    return !this.#section.hidden && document.visibilityState === "visible";
  }

  /** Resolves to what there is to say. */
  async #look() {
    try {
      const text = await getText("metrics", AbortSignal.timeout(PATIENCE));
      const samples = parseMetrics(text);
      this.#offer(modelsOf(samples));
      const scrape = scraped(samples, performance.now() / 1000, this.#watched.value);
      if (scrape.running === null) return "The engine does not answer. Trying again every second.";
      this.#history.add(scrape);
      return "";
    } catch {
      return "The server does not answer. Trying again every second.";
    }
  }

  /** Let one of several models be watched; all are, unless one is chosen that is there. */
  #offer(models) {
    const { options, value } = this.#watched;
    this.#watched.parentElement.hidden = models.length < 2;
    if (models.join() === [...options].slice(1).map((option) => option.value).join()) return;
    const names = models.map((name) => new Option(name, name));
    this.#watched.replaceChildren(new Option("all", ""), ...names);
    this.#watched.value = models.includes(value) ? value : "";
    if (this.#watched.value !== value) this.#history = new History();
  }

  #draw() {
    const latest = this.#history.points.at(-1) ?? {};
    for (const { value, name, format } of this.#tiles) {
      value.textContent = format(latest[name] ?? null);
    }
    const now = performance.now() / 1000;
    const past = now - (this.#history.points[0]?.at ?? now);
    const seconds = Math.min(Math.max(past, LEAST_SECONDS), KEPT_SECONDS);
    for (const chart of this.#charts) chart.draw(this.#history.points, now, seconds);
  }

  #say(text) {
    if (this.#notice.textContent !== text) this.#notice.textContent = text;
  }
}

function addTile(parent, { name, label, format }) {
  const tile = html("div", "tile");
  const value = html("dd", "", format(null));
  value.dataset.name = name;
  tile.append(html("dt", "", label), value);
  parent.append(tile);
  return { value, name, format };
}
