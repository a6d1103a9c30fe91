/** Asking for the API key. */

import { savedKey, saveKey } from "./key_store.mjs";

const dialog = document.getElementById("key-dialog");
const field = dialog.querySelector("input");
const reason = dialog.querySelector(".reason");

let asking = null; // two calls may be refused at once; one question is enough

/** The result of a call, made again each time a new key was given because the server wants one. */
export async function withKey(call) {
  try {
    return await call();
  } catch (error) {
    if (error.status !== 401 || !(await askKey(error.message))) throw error;
    return withKey(call);
  }
}

/**
 * Show the dialog.
 * @param why what the server said, if it refused
 * @returns whether a key was given
 */
export function askKey(why = "") {
  asking ??= ask(why).finally(() => (asking = null));
  return asking;
}

async function ask(why) {
  reason.textContent = why;
  reason.hidden = !why;
  field.value = savedKey();
  dialog.returnValue = "";
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  if (dialog.returnValue !== "use") return false;
  saveKey(field.value.trim());
  dispatchEvent(new Event("keychange"));
  return true;
}
