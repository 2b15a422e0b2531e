// Asks for the parts of the page that change, and tries texts. Whatever is put into the page was
// made, and escaped, by the server.
"use strict";

const root = document.body.dataset.prefix;

function follow(part) {
  let tag = "", wait = 2000;
  const look = async () => {
    if (!document.hidden) {
      try {
        const answer = await fetch(root + part.dataset.from, {
          headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store",
        });
        if (answer.status === 200) {
          tag = answer.headers.get("ETag") || "";
          const chosen = new Set([...part.querySelectorAll("input:checked")].map((box) => box.value));
          part.innerHTML = await answer.text();
          for (const box of part.querySelectorAll("input"))
            box.checked = chosen.has(box.value);
        }
        document.body.classList.toggle("lost", answer.status >= 400);
        wait = 2000;
      } catch {
        document.body.classList.add("lost");
        wait = Math.min(wait * 2, 30000);
      }
    }
    setTimeout(look, wait);
  };
  setTimeout(look, wait);
}

async function post(path, body) {
  const answer = await fetch(root + path, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  });
  if (!answer.ok) throw new Error((await answer.json()).error);
  return answer.text();
}

async function fill(place, button, doing, work) {
  button.disabled = true;
  place.setAttribute("aria-busy", "true");
  const note = place.querySelector(".note");
  if (note) note.textContent = doing;
  try {
    await work();
    if (note) note.textContent = "";
  } catch (error) {
    if (note) note.textContent = error.message;
  }
  place.removeAttribute("aria-busy");
  button.disabled = false;
}

function trial(box) {
  box.addEventListener("click", (event) => {
    if (event.target.id !== "open") return;
    fill(box, event.target, "opening the model: this takes some seconds", async () => {
      box.querySelector("#form").innerHTML = await post(box.dataset.open, {});
      event.target.hidden = true;
      box.querySelector("textarea").focus();
    });
  });
  box.addEventListener("submit", (event) => {
    event.preventDefault();
    const texts = [...event.target.querySelectorAll("textarea")].map((each) => each.value);
    fill(box, event.target.querySelector("button"), "computing", async () => {
      box.querySelector("#tried").innerHTML = await post(box.dataset.try, { texts });
    });
  });
}

document.querySelectorAll("[data-from]").forEach(follow);
document.querySelectorAll("[data-try]").forEach(trial);
