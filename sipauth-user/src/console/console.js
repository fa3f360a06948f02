(() => {
  "use strict";
  const address = document.body.dataset.live, state = document.getElementById("state");
  if (!address || !state) return;
  const say = (text, alive) => { state.textContent = text; state.className = alive ? "alive" : "gone"; };
  // What comes is markup that the agent made, with everything escaped that others said; the page's policy runs no script in it.
  const made = (text) => { const box = document.createElement("template"); box.innerHTML = text; return box.content; };
  const stream = new EventSource(address);
  let missed = 0;
  stream.onopen = () => say("live", true);
  stream.onerror = () => say(stream.readyState === EventSource.CLOSED ? "not live: load the page again" : "the agent does not answer", false);
  stream.addEventListener("part", (event) => {
    const part = made(event.data).firstElementChild, old = part && document.getElementById(part.id);
    if (old) old.replaceWith(part);
  });
  stream.addEventListener("refusal", (event) => {
    const list = document.getElementById("refusals");
    list.prepend(made(event.data));
    while (list.children.length > 200) list.lastElementChild.remove();
  });
  stream.addEventListener("missed", (event) => {
    missed += Number(event.data);
    say("live, " + missed + " left out", true);
  });
  addEventListener("pagehide", () => stream.close());
})();
