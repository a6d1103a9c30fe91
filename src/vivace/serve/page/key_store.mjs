/** The API key: this tab keeps it until it is closed, and nothing else does. */

const NAME = "vivace.key";

export const savedKey = () => sessionStorage.getItem(NAME) ?? "";

export function saveKey(key) {
  if (key) sessionStorage.setItem(NAME, key);
  else sessionStorage.removeItem(NAME);
}
