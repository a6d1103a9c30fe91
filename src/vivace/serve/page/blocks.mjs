const FENCED = /^```[^`\n]*\n([^]*?)(?:^```[ \t]*(?:\n|$(?![^]))|$(?![^]))/m;

/**
 * Text and fenced code in turn, without the fences (CommonMark 4.5, of backticks alone). Code that
 * is not closed goes on to the end.
 * @returns {{code: boolean, text: string}[]}
 */
export function blocks(text) {
  const parts = text.split(FENCED).map((part, place) => ({ code: place % 2 === 1, text: part }));
  return parts.filter((part) => part.text.trim());
}
