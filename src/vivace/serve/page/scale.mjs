/** Axes. */

const STEPS = [1, 2, 2.5, 5, 10];

/** The least round number that is at least `value`. */
export function roundTop(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * STEPS.find((step) => step * power >= value);
}

/** Lines through the points at which `name` is known; each gap begins a new one. */
export function runs(points, name) {
  const found = [[]];
  for (const point of points) {
    if (typeof point[name] === "number") found.at(-1).push(point);
    else if (found.at(-1).length) found.push([]);
  }
  return found.filter((run) => run.length);
}
