import assert from "node:assert/strict";
import { test } from "node:test";

import { EventParser } from "../../../src/vivace/serve/page/events.mjs";

const STREAM =
  "data: before\n\n" +
  ": a comment\r\ndata: one\r\ndata:two\r\ndata:  three\r\n\r\n" +
  'event: named\rid: 7\rdata: {"a": "b: c"}\r\r' +
  "data\n\n" +
  "retry: 5\n\n" +
  "data: \u00e9 \u{1F600}\n\n" +
  "data: never ended";
const EVENTS = ["before", "one\ntwo\n three", '{"a": "b: c"}', "", "é 😀"];

test("events come out whole", () => {
  assert.deepEqual(new EventParser().push(STREAM), EVENTS);
});

test("it does not matter where the text is cut", () => {
  for (let cut = 0; cut <= STREAM.length; cut++) {
    const parser = new EventParser();
    const events = [...parser.push(STREAM.slice(0, cut)), ...parser.push(STREAM.slice(cut))];
    assert.deepEqual(events, EVENTS, `cut at ${cut}`);
  }
  const parser = new EventParser();
  assert.deepEqual([...STREAM].flatMap((character) => parser.push(character)), EVENTS);
});
