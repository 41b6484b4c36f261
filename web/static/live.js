// Keeps a page fresh without a framework: fetches the same page again and swaps the parts that
// changed. Without JavaScript the page works the same and is refreshed by hand.
"use strict";
(() => {
  const main = document.getElementById("main");
  const pause = Number(main && main.dataset.live);
  if (!pause) return;
  let tag = null;
  let timer = null;
  let failures = 0;

  const busy = (part) => {
    // a form somebody is writing in is left alone
    if (part.contains(document.activeElement) && document.activeElement.matches("input, select, textarea, button")) return true;
    return [...part.querySelectorAll("input[type=text]")].some((field) => field.value !== "");
  };

  const swap = (fresh) => {
    for (const part of main.querySelectorAll("[data-part]")) {
      const newer = fresh.querySelector(`[data-part="${part.dataset.part}"]`);
      if (!newer || newer.innerHTML === part.dataset.seen || busy(part)) continue;
      const open = [...part.querySelectorAll("details[open][id]")].map((one) => one.id);
      const seen = newer.innerHTML;
      if (part.innerHTML !== seen) part.replaceWith(newer);
      const now = main.querySelector(`[data-part="${newer.dataset.part}"]`);
      now.dataset.seen = seen;
      for (const id of open) {
        const details = document.getElementById(id);
        if (details) details.open = true;
      }
    }
    document.title = fresh.title;
    const badge = document.querySelector("nav[aria-label=Main]");
    const newer = fresh.querySelector("nav[aria-label=Main]");
    if (badge && newer && badge.innerHTML !== newer.innerHTML) badge.innerHTML = newer.innerHTML;
  };

  const look = async () => {
    timer = null;
    if (document.hidden) return;
    try {
      const headers = tag ? { "If-None-Match": tag } : {};
      const answer = await fetch(location.href, { headers, credentials: "same-origin", cache: "no-store" });
      if (answer.status === 401) return;
      if (answer.ok) {
        tag = answer.headers.get("ETag");
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
        swap(fresh);
        if (!fresh.getElementById("main").dataset.live) return;
      }
      failures = 0;
    } catch (error) {
      failures += 1;
    }
    plan();
  };

  const plan = () => {
    if (timer === null) timer = setTimeout(look, Math.min(pause * 2 ** failures, 60000));
  };

  document.addEventListener("visibilitychange", () => { if (!document.hidden) plan(); });
  plan();
})();
