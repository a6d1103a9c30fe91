/** The settings of a lane. Fields are named as the API names them; an empty one is not sent. */

import { ALTERNATIVES } from "./tokens.mjs";

const NUMBERS = [
  "temperature",
  "top_p",
  "top_k",
  "min_p",
  "max_tokens",
  "seed",
  "repetition_penalty",
  "presence_penalty",
  "frequency_penalty",
];

export function readSettings(form) {
  const value = (name) => form.elements.namedItem(name).value;
  const number = (name) => [name, value(name) === "" ? null : Number(value(name))];
  return {
    model: value("model") || null,
    system: value("system"),
    ...Object.fromEntries(NUMBERS.map(number)),
    stop: stopStrings(value("stop")),
    tools: parsedTools(value("tools")),
    logprobs: form.elements.namedItem("logprobs").checked ? ALTERNATIVES : null,
  };
}

/** A list of functions; null where there is none, or no list. */
function parsedTools(text) {
  try {
    const tools = JSON.parse(text);
    return Array.isArray(tools) ? tools : null;
  } catch {
    return null;
  }
}

/** Let a form be sent only where its tools can be read. */
export function checkTools(form) {
  const field = form.elements.namedItem("tools");
  const readable = field.value.trim() === "" || parsedTools(field.value) !== null;
  field.setCustomValidity(readable ? "" : "A list of functions in JSON");
}

/** One on each line; \n, \t and \\ are written out. */
export function stopStrings(text) {
  const lines = text.split("\n").filter((line) => line !== "");
  const escapes = { n: "\n", t: "\t", "\\": "\\" };
  return lines.map((line) => line.replace(/\\([nt\\])/g, (_, one) => escapes[one]));
}

/** What is set, in a few words. */
export function summary(settings) {
  const numbers = NUMBERS.filter((name) => settings[name] !== null);
  const said = numbers.map((name) => `${name.replaceAll("_", " ")} ${settings[name]}`);
  if (settings.stop.length) said.push(`stop ${settings.stop.map((one) => JSON.stringify(one))}`);
  if (settings.system) said.push("system prompt");
  if (settings.tools?.length) said.push(`tools ${settings.tools.length}`);
  return said.join(" · ");
}

export function copySettings(from, to) {
  for (const field of from.elements) {
    const other = to.elements.namedItem(field.name);
    if (!other) continue; // a button
    if (field.type === "checkbox") other.checked = field.checked;
    else other.value = field.value;
  }
}

/** Mark the field that an error names. Whether there is one. */
export function markField(form, param) {
  const name = param === "top_logprobs" ? "logprobs" : param;
  const field = name && form.elements.namedItem(name);
  field?.setAttribute("aria-invalid", "true");
  return Boolean(field);
}

export function unmarkFields(form) {
  for (const field of form.elements) field.removeAttribute("aria-invalid");
}
