/** Tokens that show, under the pointer or the keyboard, how likely they were and what else was. */

import { html } from "./dom.mjs";
import { percent, visible } from "./format.mjs";

export const ALTERNATIVES = 5;
const LIKELY = [0.9, 0.5, 0.2, 0.05]; // where the shades of surprise begin
const MARGIN = 8; // pixels between the tip and what is around it

const told = new WeakMap(); // element -> its tokens

/** A piece of text and the tokens that it is made of. */
export function tokenElement(text, tokens) {
  const element = html("span", "token", text);
  const share = Math.exp(Math.min(...tokens.map(({ logprob }) => logprob)));
  const shade = LIKELY.findIndex((bound) => share >= bound);
  element.dataset.surprise = shade < 0 ? LIKELY.length : shade;
  element.tabIndex = -1;
  element.setAttribute("role", "button"); // it shows the tip
  element.setAttribute("aria-label", visible(text));
  element.setAttribute("aria-describedby", "tip");
  told.set(element, tokens);
  return element;
}

/** Have the tokens inside a container show the tip. One of them is in the order of Tab. */
export function showsTokens(container, tip) {
  const token = (event) => event.target.closest?.(".token");
  const focused = () => container.querySelector(".token:focus");
  const hide = () => (tip.hidden = true);
  container.addEventListener("pointerover", (event) => {
    if (token(event)) show(tip, token(event));
    else hide();
  });
  container.addEventListener("pointerleave", hide);
  container.addEventListener("focusin", (event) => token(event) && show(tip, token(event)));
  container.addEventListener("focusout", hide);
  container.addEventListener("scroll", () => (focused() ? show(tip, focused()) : hide()));
  container.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
    const next = token(event) && neighbour(token(event), event.key);
    if (!next) return;
    event.preventDefault();
    token(event).tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
}

function neighbour(token, key) {
  const { parentElement, previousElementSibling, nextElementSibling } = token;
  return {
    ArrowLeft: previousElementSibling,
    ArrowRight: nextElementSibling,
    Home: parentElement.firstElementChild,
    End: parentElement.lastElementChild,
  }[key];
}

function show(tip, element) {
  tip.replaceChildren(...told.get(element).map(explained));
  tip.hidden = false;
  const { left, top, bottom } = element.getBoundingClientRect();
  const { width, height } = tip.getBoundingClientRect();
  const below = bottom + MARGIN + height < innerHeight;
  tip.style.top = `${below ? bottom + MARGIN : top - MARGIN - height}px`;
  tip.style.left = `${Math.max(MARGIN, Math.min(left, innerWidth - width - MARGIN))}px`;
}

function explained({ text, logprob, likeliest }) {
  const list = html("ol");
  const drawn = { text, logprob };
  const others = likeliest.filter((other) => other.text !== text);
  for (const one of [drawn, ...others].sort((a, b) => b.logprob - a.logprob)) {
    const row = html("li", one === drawn ? "drawn" : "");
    const share = Math.exp(one.logprob);
    const bar = html("span", "bar");
    bar.style.width = `${share * 100}%`;
    row.append(html("code", "", visible(one.text)), html("span", "share", percent(share)), bar);
    list.append(row);
  }
  const block = html("div");
  const number = logprob.toFixed(2).replace("-", "−");
  block.append(list, html("p", "logprob", `log-probability ${number}`));
  return block;
}
