/** Begins everything, and shows the view that the address names. */

import { askKey } from "./key.mjs";
import { LiveView } from "./live.mjs";
import { Playground } from "./playground.mjs";

const [playground, engine] = document.querySelectorAll("main > section");
const asks = new Playground(playground);
const live = new LiveView(engine);

function showView() {
  const shown = location.hash === "#engine" ? engine : playground;
  for (const view of [playground, engine]) view.hidden = view !== shown;
  for (const link of document.querySelectorAll("nav a")) {
    if (shown.id === `${link.hash.slice(1)}-view`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  live.update();
}

addEventListener("hashchange", showView);
addEventListener("keychange", () => asks.begin());
document.getElementById("key-button").addEventListener("click", () => askKey());
showView();
asks.begin();
