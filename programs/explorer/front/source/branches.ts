// Live branches: a POST whose answer is a stream of events, read as it comes. Leaving ends the decoding.

import { Failure, failureOf } from "./data";
import type { BranchEvent, BranchRequest } from "./contract";

/** Calls `heard` for each event until the stream ends. Raises Failure; an AbortError where `signal` ended it. */
export async function decodeBranch(request: BranchRequest, heard: (event: BranchEvent) => void, signal: AbortSignal): Promise<void> {
  const answer = await fetch("/data/branches", {
    method: "POST",
    headers: { "content-type": "application/json", accept: "text/event-stream" },
    body: JSON.stringify(request),
    signal,
  });
  if (!answer.ok || !answer.body) throw await failureOf(answer);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let [rest, ended] = ["", false];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const messages = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
    rest = messages.pop() ?? "";
    for (const message of messages) {
      const data = message.split("\n").filter((line) => line.startsWith("data:"));
      if (data.length === 0) continue;
      const event = JSON.parse(data.map((line) => line.slice(5)).join("\n")) as BranchEvent;
      ended ||= event.event === "finished" || event.event === "failed";
      heard(event);
    }
  }
  if (!ended) throw new Failure("The branch ended early: the server closed the stream.", "Look at what the server printed.");
}
