// The body of a function that runs in the page: every text in sight whose contrast with what lies
// behind it is below 4.5 (WCAG 2.2, 1.4.3), as "ratio: text".

const LEAST = 4.5;

const numbers = (color) => color.match(/[\d.]+/g).map(Number);
const opaque = ([, , , alpha = 1]) => alpha === 1;

/** One colour over another. */
function over([red, green, blue, alpha = 1], below) {
  return [red, green, blue].map((part, place) => part * alpha + below[place] * (1 - alpha));
}

function background(element) {
  const layers = [];
  for (let at = element; at; at = at.parentElement) {
    layers.push(numbers(getComputedStyle(at).backgroundColor));
    if (opaque(layers.at(-1))) break;
  }
  return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
}

function luminance(color) {
  const linear = color.map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
}

function contrast(color, behind) {
  const [light, dark] = [luminance(over(color, behind)), luminance(behind)].sort((a, b) => b - a);
  return (light + 0.05) / (dark + 0.05);
}

function* texts() {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const { parentElement: element, data } = walker.currentNode;
    if (!data.trim() || !element.checkVisibility() || element.closest(".unseen")) continue;
    const style = getComputedStyle(element);
    yield [data, element.closest("svg") ? style.fill : style.color, element];
  }
  for (const field of document.querySelectorAll(":placeholder-shown")) {
    if (!field.checkVisibility() || !field.placeholder) continue;
    yield [field.placeholder, getComputedStyle(field, "::placeholder").color, field];
  }
}

const found = [...texts()];
const poor = found.flatMap(([text, color, element]) => {
  const ratio = contrast(numbers(color), background(element));
  return ratio < LEAST ? [`${ratio.toFixed(2)}: ${text.trim().slice(0, 60)}`] : [];
});
return { texts: found.length, poor };
