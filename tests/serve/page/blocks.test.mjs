import assert from "node:assert/strict";
import { test } from "node:test";

import { blocks } from "../../../src/vivace/serve/page/blocks.mjs";

const text = (text) => ({ code: false, text });
const code = (text) => ({ code: true, text });

test("code stands between fences", () => {
  const answer = "Here:\n```python\nx = `1`\n\n```\nand\n```\ny\n```";
  assert.deepEqual(blocks(answer), [
    text("Here:\n"),
    code("x = `1`\n\n"),
    text("and\n"),
    code("y\n"),
  ]);
});

test("what is no fence is text", () => {
  for (const plain of ["a ```b``` c", " x\n", "`a`\n``\nb"]) {
    assert.deepEqual(blocks(plain), [text(plain)]);
  }
  assert.deepEqual(blocks(""), []);
});

test("code that was cut off goes on to the end", () => {
  assert.deepEqual(blocks("```py\nx = 1\ny"), [code("x = 1\ny")]);
  assert.deepEqual(blocks("a\n```py\nx ```\n"), [text("a\n"), code("x ```\n")]);
});
