/** Elements. */

const SVG = "http://www.w3.org/2000/svg";

export function html(name, className = "", text = "") {
  const element = document.createElement(name);
  if (className) element.className = className;
  element.textContent = text;
  return element;
}

export function svg(name, attributes, text = "") {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return element;
}

/** Have a screen reader say it. */
export function announce(text) {
  document.getElementById("announcer").textContent = text;
}
