// The page of batches: a table, one batch, an overview, and the parts at a task and at a Dag. Airflow's UI loads this
// file once for each part. Texts from outside become text nodes only: nothing here makes HTML from a text.

const React = globalThis.React;
const { useCallback, useEffect, useRef, useState } = React;
const h = React.createElement;

const NAMES = {
  "mistral-batches": "Mistral Batches",
  "mistral-batch": "Mistral Batch",
  "mistral-batch-runs": "Mistral Batch Runs",
};
const part = new URL(import.meta.url).searchParams.get("part") ?? "mistral-batches";
const SERVER = new URL("..", import.meta.url);
// Milliseconds between looks: while jobs run, and while none does.
const BUSY_LOOK = 5_000, IDLE_LOOK = 30_000;

// ---- Calls -------------------------------------------------------------------------------------------------------

class CallError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function call(path, options = {}) {
  let answer;
  try {
    answer = await fetch(new URL(path, SERVER), { credentials: "same-origin", ...options });
  } catch {
    throw new CallError(0, "Airflow does not answer. The page tries again in a few seconds.");
  }
  const body = await answer.json().catch(() => ({}));
  if (answer.ok) return body;
  const said = typeof body.detail === "string" ? body.detail : `Airflow answered ${answer.status}.`;
  if (answer.status === 401) throw new CallError(401, "You are logged out. Reload the page to log in again.");
  throw new CallError(answer.status, said);
}

// What the server says at a path, again every few seconds while the tab is visible. What was known stays in between.
function useAnswer(path, isBusy) {
  const [state, setState] = useState({ path: null, answer: null, error: null });
  const [looks, setLooks] = useState(0);
  useEffect(() => {
    let timer, isOver = false;
    const look = async () => {
      if (document.hidden) {
        timer = setTimeout(look, 1_000);
        return;
      }
      let next = IDLE_LOOK;
      try {
        const answer = await call(path);
        if (isOver) return;
        setState({ path, answer, error: null });
        if (isBusy(answer)) next = BUSY_LOOK;
      } catch (error) {
        if (isOver) return;
        setState((before) => ({ path, answer: before.path === path ? before.answer : null, error }));
        next = error.status >= 400 && error.status < 500 ? IDLE_LOOK : BUSY_LOOK;
      }
      timer = setTimeout(look, next);
    };
    look();
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [path, looks]);
  const again = useCallback(() => setLooks((count) => count + 1), []);
  return { ...state, isCurrent: state.path === path, again };
}

// ---- The place: what is looked at is in the address's fragment, so that it can be shared and the back button works ---

function usePlace() {
  const read = () => Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  const [place, setPlace] = useState(read);
  useEffect(() => {
    const follow = () => setPlace(read());
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  const go = useCallback((changes, { replaces = false } = {}) => {
    const all = { ...read(), ...changes };
    const kept = Object.entries(all).filter(([, value]) => value !== "" && value != null);
    const url = `${location.pathname}${location.search}#${new URLSearchParams(kept)}`;
    history[replaces ? "replaceState" : "pushState"](history.state, "", url);
    setPlace(read());
  }, []);
  return [place, go];
}

// ---- Words -------------------------------------------------------------------------------------------------------

const some = (count, what) => `${number(count)} ${what}${count === 1 ? "" : "s"}`;
const number = (value) => (value == null ? "–" : Math.round(value).toLocaleString("en"));
const percent = (share) => (share == null ? "–" : `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`);
const dollars = (value) => (value == null ? "–" : value > 0 && value < 0.01 ? "< $0.01" : `$${value.toFixed(2)}`);
const when = (seconds) => (seconds ? new Date(1000 * seconds).toLocaleString() : "–");

function span(seconds) {
  const units = [["d", 86_400], ["h", 3_600], ["min", 60]];
  const [unit, length] = units.find(([, size]) => seconds >= size) ?? ["s", 1];
  return `${Math.max(0, Math.floor(seconds / length))} ${unit}`;
}

const roundName = ({ round, part }) => `round ${round + 1}, job ${part + 1}`;

const tokens = (job) =>
  job.usage ? (job.usage.prompt_tokens ?? 0) + (job.usage.completion_tokens ?? 0) : null;

const airflowUrl = (path) => new URL(path.replace(/^\//, ""), document.baseURI).href;
const segment = encodeURIComponent;

function taskUrl(job) {
  const mapped = job.map_index >= 0 ? `/mapped/${job.map_index}` : "";
  return airflowUrl(`dags/${segment(job.dag_id)}/runs/${segment(job.run_id)}/tasks/${segment(job.task_id)}${mapped}`);
}

// ---- Small parts -------------------------------------------------------------------------------------------------

const Status = ({ status }) =>
  h("span", { className: "mb-status", "data-status": status }, status.replaceAll("_", " "));

const Note = ({ kind = "info", title, children }) =>
  h("div", { className: "mb-note", "data-kind": kind, role: kind === "error" ? "alert" : "status" },
    title && h("strong", null, title), title && " ", children);

function Trouble({ error }) {
  if (!error) return null;
  const title = error.status === 403 ? "You may not see this." : error.status === 404 ? "Nothing here." : "This did not work.";
  return h(Note, { kind: "error", title }, error.message);
}

function Connections({ answer }) {
  return (answer.connections ?? []).map((state) =>
    state.ok
      ? !state.is_complete && h(Note, { key: state.conn_id }, `Older jobs of ${state.conn_id} are still being read.`)
      : h(Note, { key: state.conn_id, kind: "warning", title: `Connection ${state.conn_id}:` },
          state.error ?? "its first answer is awaited.",
          state.age_seconds != null && ` Its jobs are shown as they were ${span(state.age_seconds)} ago.`));
}

function Progress({ job }) {
  const failed = job.failed_share ?? 0;
  const done = Math.max(0, (job.progress ?? 0) - failed);
  const label = `${number(job.completed)} of ${number(job.total)} done, ${number(job.failed)} failed`;
  return h("div", { className: "mb-progress", title: label },
    h("div", { className: "mb-bar", role: "img", "aria-label": label },
      h("span", { className: "mb-bar-done", style: { width: `${100 * done}%` } }),
      h("span", { className: "mb-bar-failed", style: { width: `${100 * failed}%` } })),
    h("small", null, job.total ? `${number(job.completed + job.failed)} / ${number(job.total)}` : "–",
      job.failed > 0 && h("span", { className: "mb-failed" }, ` · ${percent(job.failed_share)} failed`)));
}

function Cost({ job }) {
  if (job.cost_usd != null || job.expected_cost_usd == null) return dollars(job.cost_usd);
  return h("span", { className: "mb-muted", title: "Expected, by earlier jobs of this task" }, `about ${dollars(job.expected_cost_usd)}`);
}

function Cancel({ job, onDone }) {
  const dialog = useRef(null);
  const [state, setState] = useState({ isBusy: false, error: null });
  const confirm = async () => {
    setState({ isBusy: true, error: null });
    try {
      const headers = { "Content-Type": "application/json" };
      await call(`api/jobs/${segment(job.id)}/cancel`, { method: "POST", headers, body: "{}" });
      dialog.current?.close();
      setState({ isBusy: false, error: null });
      onDone();
    } catch (error) {
      setState({ isBusy: false, error });
    }
  };
  const button = (props, text) => h("button", { type: "button", className: "mb-button", ...props }, text);
  return h(React.Fragment, null,
    button({ "data-kind": "danger", onClick: () => dialog.current.showModal() }, "Cancel…"),
    h("dialog", { ref: dialog, className: "mb-dialog", "aria-label": "Cancel the job" },
      h("h3", null, "Cancel this job?"),
      h("p", null, `${job.id}: ${job.completed > 0
        ? `${number(job.completed)} of ${number(job.total)} requests are done. They are paid for, and the API keeps their answers.`
        : "no request is done yet."} ${job.task_id ? "If a task waits for the job, it will see it as cancelled." : ""}`),
      h(Trouble, { error: state.error }),
      h("div", { className: "mb-row mb-end" },
        button({ autoFocus: true, onClick: () => dialog.current.close() }, "Keep it running"),
        button({ "data-kind": "danger", disabled: state.isBusy, onClick: confirm }, "Cancel the job"))));
}

function TaskLink({ job }) {
  if (!job.task_id) return h("span", { className: "mb-muted" }, "no task of this provider");
  return h("a", { href: taskUrl(job), title: job.run_id },
    h("span", null, job.dag_id), h("small", null, `${job.task_id}${job.map_index >= 0 ? ` [${job.map_index}]` : ""}`));
}

const JobLink = ({ job, go, children }) =>
  h("a", { href: `#view=job&id=${segment(job.id)}`, onClick: (event) => { event.preventDefault(); go({ view: "job", id: job.id }); } }, children);

// ---- The table ---------------------------------------------------------------------------------------------------

const COLUMNS = [
  { title: "Status", sort: "status", cell: (job) => h(Status, job) },
  { title: "Progress", sort: "progress", cell: (job) => h(Progress, { job }) },
  { title: "Dag and task", sort: "dag_id", cell: (job) => h(TaskLink, { job }) },
  { title: "Model", sort: "model", cell: (job) => h("div", { title: job.model ?? undefined }, h("span", null, job.model ?? "–"), h("small", null, job.endpoint)) },
  { title: "Age", sort: "created_at", cell: (job, now) => h("time", { title: when(job.created_at) }, span(now - job.created_at)) },
  { title: "Time left", sort: "expires_at", cell: (job, now) => (job.is_over || !job.expires_at ? "–" : h("time", { title: when(job.expires_at) }, span(job.expires_at - now))) },
  { title: "Tokens", sort: "tokens", numeric: true, cell: (job) => number(tokens(job)) },
  { title: "Cost", sort: "cost_usd", numeric: true, cell: (job) => h(Cost, { job }) },
  { title: "Job", cell: (job, now, go) => h(JobLink, { job, go }, h("code", null, job.id.slice(0, 8)), (job.round > 0 || job.part > 0) && h("small", null, roundName(job))) },
];

function Table({ jobs, now, go, sort, descending, onSort, mayCancel = [], onDone, caption }) {
  const head = (column) => {
    if (!onSort || !column.sort) return h("th", { key: column.title, scope: "col", className: column.numeric ? "mb-number" : undefined }, column.title);
    const isOn = sort === column.sort;
    return h("th", { key: column.title, scope: "col", className: column.numeric ? "mb-number" : undefined, "aria-sort": isOn ? (descending ? "descending" : "ascending") : "none" },
      h("button", { type: "button", onClick: () => onSort(column.sort, isOn ? !descending : true) },
        column.title, h("span", { "aria-hidden": true }, isOn ? (descending ? " ↓" : " ↑") : "")));
  };
  const isAction = mayCancel.length > 0;
  return h("div", { className: "mb-table", tabIndex: 0, role: "region", "aria-label": caption },
    h("table", null,
      h("thead", null, h("tr", null, COLUMNS.map(head), isAction && h("th", null, h("span", { className: "mb-hidden" }, "Actions")))),
      h("tbody", null, jobs.map((job) =>
        h("tr", { key: job.id, "data-id": job.id },
          COLUMNS.map((column) => h("td", { key: column.title, "data-title": column.title, className: column.numeric ? "mb-number" : undefined }, column.cell(job, now, go))),
          isAction && h("td", null, mayCancel.includes(job.id) && h(Cancel, { job, onDone })))))));
}

const isSomeRunning = (answer) => answer.has_all_costs === false || (answer.jobs ?? []).some((job) => !job.is_over) || (answer.connections ?? []).some((state) => !state.ok || !state.is_complete);

function Choice({ label, value, options, onChange, all = "All" }) {
  const id = `mb-choice-${label.replaceAll(" ", "-")}`;
  // Not within the label: the options would be part of its text.
  return h("div", { className: "mb-field" }, h("label", { htmlFor: id }, label),
    h("select", { id, value: value ?? "", onChange: (event) => onChange(event.target.value) },
      h("option", { value: "" }, all),
      options.map(([key, text]) => h("option", { key, value: key }, text))));
}

const AGES = [["1h", "Last hour"], ["24h", "Last 24 hours"], ["7d", "Last 7 days"], ["31d", "Last 31 days"]];
const FILTERS = ["status", "dag_id", "model", "connection", "since", "text"];

function Batches({ place, go }) {
  const wanted = Object.fromEntries([...FILTERS, "sort", "descending", "page"].filter((name) => place[name]).map((name) => [name, place[name]]));
  const path = `api/jobs?${new URLSearchParams(wanted)}`;
  const { answer, error, isCurrent, again } = useAnswer(path, isSomeRunning);
  const [text, setText] = useState(place.text ?? "");
  useEffect(() => {
    if (text === (place.text ?? "")) return undefined;
    const timer = setTimeout(() => go({ text, page: "" }, { replaces: true }), 300);
    return () => clearTimeout(timer);
  }, [text]);
  useEffect(() => setText(place.text ?? ""), [place.text]);
  const filter = (name) => (value) => go({ [name]: value, page: "" });
  const reset = () => go(Object.fromEntries([...FILTERS, "sort", "descending", "page"].map((name) => [name, ""])));
  if (!answer) return error ? h(React.Fragment, null, h(Trouble, { error }), error.status === 422 && h("button", { type: "button", className: "mb-button", onClick: reset }, "Show all batches")) : h("p", { className: "mb-muted", role: "status" }, "Reading the jobs…");
  const counts = Object.entries(answer.counts_by_status).sort();
  const named = (values) => values.map((value) => [value, value]);
  const isFiltered = FILTERS.some((name) => place[name]);
  const hasConnection = answer.connections.length > 0;
  return h(React.Fragment, null,
    h(Trouble, { error }), h(Connections, { answer }),
    !answer.has_all_costs && h(Note, null, "Costs of older jobs are still being looked up; the order changes until they are known."),
    h("div", { className: "mb-filters" },
      h("label", { className: "mb-field mb-search" }, h("span", null, "Search"),
        h("input", { type: "search", value: text, maxLength: 200, placeholder: "Id, Dag, task, run, metadata", onChange: (event) => setText(event.target.value) })),
      h(Choice, { label: "Status", value: place.status, onChange: filter("status"), options: [["active", "running"], ...counts.map(([status, count]) => [status, `${status.replaceAll("_", " ")} (${count})`])] }),
      h(Choice, { label: "Dag", value: place.dag_id, onChange: filter("dag_id"), options: named(answer.dags) }),
      h(Choice, { label: "Model", value: place.model, onChange: filter("model"), options: named(answer.models) }),
      h(Choice, { label: "Connection", value: place.connection, onChange: filter("connection"), options: named(answer.connections.map((one) => one.conn_id)) }),
      h(Choice, { label: "Created", value: place.since, onChange: filter("since"), options: AGES }),
      // Where the table has no head.
      h("div", { className: "mb-narrow" }, h(Choice, { label: "Sort by", all: "Newest", value: place.sort, onChange: (sort) => go({ sort, descending: "", page: "" }), options: COLUMNS.filter((column) => column.sort && column.sort !== "created_at").map((column) => [column.sort, column.title]) }))),
    answer.jobs.length === 0
      ? h(Note, { title: isFiltered ? "No job fits." : hasConnection ? "No batches yet." : "No connection." },
          isFiltered ? "Take a filter away."
            : hasConnection ? "Jobs of the last 35 days whose Dags you may read appear here, as soon as a task submits one."
              : "Add a connection of type Mistral under Admin, Connections.")
      : h("div", { "aria-busy": !isCurrent },
          h(Table, {
            caption: "Batch jobs", jobs: answer.jobs, now: answer.now, go, mayCancel: answer.may_cancel, onDone: again,
            sort: place.sort ?? "created_at", descending: place.descending !== "false",
            onSort: (sort, descending) => go({ sort, descending: String(descending), page: "" }),
          })),
    h("nav", { className: "mb-row", "aria-label": "Pages" },
      h("span", { className: "mb-muted" }, `${some(answer.total, "job")}, page ${answer.page} of ${number(answer.pages)}`),
      h("button", { type: "button", className: "mb-button", disabled: answer.page <= 1, onClick: () => go({ page: String(answer.page - 1) }) }, "Previous"),
      h("button", { type: "button", className: "mb-button", disabled: answer.page >= answer.pages, onClick: () => go({ page: String(answer.page + 1) }) }, "Next")));
}

// ---- One batch ---------------------------------------------------------------------------------------------------

const Facts = ({ facts }) =>
  h("dl", { className: "mb-facts" }, facts.filter(([, value]) => value != null && value !== "").map(([name, value]) =>
    h("div", { key: name }, h("dt", null, name), h("dd", null, value))));

const Section = ({ title, children }) => h("section", { className: "mb-card" }, h("h3", null, title), children);

function Rows({ title: name, head, ofBatch }) {
  const title = ofBatch ? `${name} of the whole batch, as they landed` : name;
  if (!head) return null;
  if (head.problem) return h(Section, { title }, h(Note, { kind: "warning" }, head.problem));
  const codes = byStatus(head.by_status);
  return h(Section, { title },
    h("p", { className: "mb-muted" }, head.rows_read === 0 ? "The file has no rows." : `${head.is_whole ? "All rows of the file" : "The first rows"} were read: ${number(head.rows_read)}.${codes && ` By HTTP status: ${codes}.`}`),
    head.errors.length > 0 && h("ul", null, head.errors.map((kind, index) =>
      h("li", { key: index }, kindOfError(kind)))),
    head.rows.length > 0 && h("div", { className: "mb-table", tabIndex: 0, role: "region", "aria-label": title }, h("table", null,
      h("thead", null, h("tr", null, ["Custom id", "HTTP", "Text"].map((name) => h("th", { key: name, scope: "col" }, name)))),
      h("tbody", null, head.rows.map((row, index) => h("tr", { key: index },
        h("td", { "data-title": "Custom id" }, h("code", null, row.custom_id ?? "–")), h("td", { "data-title": "HTTP" }, row.status_code ?? "–"),
        h("td", { "data-title": "Text", className: "mb-text" }, row.error ?? row.text ?? "–")))))));
}

// An error of a digest, of the first rows or of the manifest, whose values are texts.
const kindOfError = (kind) => `${number(kind.count)} × ${kind.status_code ?? "no status"}: ${kind.message ?? kind.code ?? "no message"} (such as ${kind.example ?? "–"})`;

const byStatus = (counts) => Object.entries(counts ?? {}).map(([code, count]) => `${code}: ${number(count)}`).join(", ");

const amounts = (values) =>
  Object.entries(values ?? {}).filter(([, amount]) => typeof amount === "number" && amount > 0).map(([name, amount]) => `${number(amount)} ${name.replaceAll("_", " ")}`).join(", ");

function Landed({ manifest }) {
  const { counts = {}, errors = [] } = manifest;
  return h(Section, { title: "Landed" },
    h(Facts, { facts: [
      ["Results", manifest.results_path], ["Errors", manifest.errors_path],
      ["Requests", amounts(counts)], ["By HTTP status", byStatus(counts.by_status)], ["Usage", amounts(manifest.usage)],
      ["Cost", manifest.estimated_cost_usd == null ? null : dollars(manifest.estimated_cost_usd)],
      ["Started", manifest.started_at == null ? null : when(manifest.started_at)], ["Completed", manifest.completed_at == null ? null : when(manifest.completed_at)],
      ["Jobs", (manifest.batch_ids ?? []).join(", ")],
    ] }),
    errors.length > 0 && h("ul", null, errors.map((kind, index) => h("li", { key: index }, kindOfError(kind)))));
}

function Rounds({ jobs, id, go }) {
  if (jobs.length < 2) return null;
  return h(Section, { title: "Jobs of this batch, by round" }, h("ol", { className: "mb-timeline" }, jobs.map((job) =>
    h("li", { key: job.id },
      h("span", null, job.id === id ? h("strong", null, roundName(job)) : h(JobLink, { job, go }, roundName(job))),
      h(Status, { status: job.status }),
      h("span", { className: "mb-muted" }, `${number(job.completed)} of ${number(job.total)} done, ${number(job.failed)} failed`),
      h("time", null, when(job.created_at))))));
}

function Job({ id, go, back }) {
  const { answer, error, again } = useAnswer(`api/jobs/${segment(id)}`, (detail) => !detail.job.is_over);
  const [copied, setCopied] = useState("Copy the id");
  // Where the keyboard was is gone.
  const backButton = h("button", { type: "button", className: "mb-button", autoFocus: true, onClick: back }, "← All batches");
  if (!answer) return h(React.Fragment, null, backButton, error ? h(Trouble, { error }) : h("p", { className: "mb-muted", role: "status" }, "Reading the job…"));
  const { job, manifest } = answer;
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(job.id);
      setCopied("Copied");
    } catch {
      // Browsers give the clipboard to pages with https only.
      setCopied("Copy it below: no clipboard here");
    }
  };
  return h(React.Fragment, null,
    h("div", { className: "mb-row" }, backButton,
      job.task_id && h("a", { className: "mb-button", href: taskUrl(job) }, "Open the task"),
      h("button", { type: "button", className: "mb-button", onClick: copy, "aria-live": "polite" }, copied),
      answer.console_url && h("a", { className: "mb-button", href: answer.console_url, target: "_blank", rel: "noopener noreferrer" }, "Open the console"),
      answer.may_cancel.includes(job.id) && h(Cancel, { job, onDone: again })),
    h(Trouble, { error }), h(Connections, { answer: { connections: answer.connections.filter((one) => job.connections.includes(one.conn_id)) } }),
    h("h2", null, h("code", null, job.id), " ", h(Status, job)),
    h(Progress, { job }),
    answer.landing_problem && h(Note, { kind: "warning", title: "The landed files cannot be shown:" }, `${answer.landing_problem}.`),
    job.errors.length > 0 && h(Section, { title: "Errors of the job" }, h("ul", null, job.errors.map((text, index) => h("li", { key: index }, text)))),
    h("div", { className: "mb-cards" },
      h(Section, { title: "Time line" }, h("ol", { className: "mb-timeline" }, answer.timeline.map((moment, index) =>
        h("li", { key: index, "data-future": moment.at > answer.now }, h("span", null, moment.what), h("time", null, when(moment.at)))))),
      h(Section, { title: "Facts" }, h(Facts, { facts: [
        ["Model", job.model], ["Endpoint", job.endpoint], ["Connections", job.connections.join(", ")],
        ["Task", job.task_id && h(TaskLink, { job })], ["Run", job.run_id], ["Round", job.round == null ? null : job.round + 1],
        ["Tokens", tokens(job) == null ? null : number(tokens(job))],
        ["Cost", job.cost_usd == null ? null : `${dollars(job.cost_usd)}${answer.is_estimate ? " (estimated from the first rows)" : ""}`],
        ["Expected cost", job.expected_cost_usd == null ? null : `about ${dollars(job.expected_cost_usd)} (by earlier jobs of this task)`],
        ["Input files", job.input_files.join(", ")], ["Output file", job.output_file_id], ["Error file", job.error_file_id],
      ] })),
      h(Rounds, { jobs: answer.batch, id: job.id, go }),
      manifest && h(Landed, { manifest }),
      Object.keys(job.metadata).length > 0 && h(Section, { title: "Metadata" }, h(Facts, { facts: Object.entries(job.metadata) }))),
    h(Rows, { title: "First failures", head: answer.failures, ofBatch: answer.has_landed_rows }), h(Rows, { title: "First answers", head: answer.answers, ofBatch: answer.has_landed_rows }));
}

// ---- Overview ----------------------------------------------------------------------------------------------------

// Bars of one measure, each with its name and value beside it, so that no colour alone tells anything.
function Bars({ title, groups, value, label }) {
  if (groups.length === 0) return null;
  const most = Math.max(...groups.map(value), 0) || 1;
  return h(Section, { title }, h("div", { className: "mb-bars" }, groups.map((group) =>
    h("div", { key: group.name, className: "mb-bars-row" },
      h("span", { title: group.name }, group.name || "none"),
      h("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", role: "img", "aria-label": `${group.name}: ${label(group)}` },
        h("rect", { width: Math.max(0.5, (100 * value(group)) / most), height: 10, rx: 1 })),
      h("span", { className: "mb-number" }, label(group))))));
}

function Days({ days }) {
  if (days.length === 0) return null;
  const most = Math.max(...days.map((day) => day.requests)) || 1;
  const width = 100 / Math.max(days.length, 10);
  return h(Section, { title: "Requests by day (UTC)" },
    h("svg", { className: "mb-days", viewBox: "0 0 100 30", preserveAspectRatio: "none", role: "img", "aria-label": days.map((day) => `${day.name}: ${number(day.requests)} requests`).join("; ") },
      days.map((day, index) => {
        const size = (28 * day.requests) / most, failed = day.requests ? (size * day.failed) / day.requests : 0;
        const box = { x: index * width + width * 0.15, width: width * 0.7 };
        return h("g", { key: day.name }, h("title", null, `${day.name}: ${number(day.requests)} requests, ${number(day.failed)} failed, ${dollars(day.cost_usd)}`),
          h("rect", { ...box, y: 30 - size, height: size }), h("rect", { ...box, y: 30 - failed, height: failed, className: "mb-fill-failed" }));
      })),
    h("p", { className: "mb-muted" }, `${days[0].name} to ${days.at(-1).name}`));
}

const Tile = ({ title, value, note }) => h("div", { className: "mb-card mb-tile" }, h("span", null, title), h("strong", null, value), h("small", null, note));

function Overview({ go }) {
  const { answer, error, again } = useAnswer("api/overview", () => false);
  if (!answer) return error ? h(Trouble, { error }) : h("p", { className: "mb-muted", role: "status" }, "Summing up…");
  const { today, month, pending, orphans } = answer;
  const cost = (sum) => [
    sum.cost_usd == null ? null : dollars(sum.cost_usd),
    sum.expected_cost_usd == null ? null : `about ${dollars(sum.expected_cost_usd)} more expected`,
    sum.expected_cost_usd == null && sum.jobs_without_cost ? `cost of ${some(sum.jobs_without_cost, "job")} unknown` : null,
  ].filter(Boolean).join(" · ") || "no cost";
  const isCosted = month.cost_usd != null;
  const value = (group) => (isCosted ? group.cost_usd ?? 0 : group.requests);
  const label = (group) => [isCosted && dollars(group.cost_usd), some(group.requests, "request"), group.tokens > 0 && `${number(group.tokens)} tokens`].filter(Boolean).join(" · ");
  const what = isCosted ? "Cost" : "Requests";
  return h(React.Fragment, null,
    h(Trouble, { error }), h(Connections, { answer }),
    h("div", { className: "mb-cards" },
      h(Tile, { title: "Today", value: some(today.jobs, "job"), note: `${some(today.requests, "request")} · ${number(today.failed)} failed${today.tokens ? ` · ${number(today.tokens)} tokens` : ""} · ${cost(today)}` }),
      h(Tile, { title: "This month", value: some(month.jobs, "job"), note: `${some(month.requests, "request")}${month.tokens ? ` · ${number(month.tokens)} tokens` : ""} · ${cost(month)}` }),
      h(Tile, { title: "Pending", value: some(pending.requests, "request"), note: `in ${some(pending.jobs, "job")} that you may see; with those of all others, the fullest workspace is ${percent(pending.share)} full` })),
    h(Section, { title: "Orphans: jobs that run although no task waits for them" },
      orphans.length === 0 ? h("p", { className: "mb-muted" }, "None.")
        : h(React.Fragment, null,
            h("ul", null, orphans.map(({ job, reason }) => h("li", { key: job.id }, h("code", null, job.id.slice(0, 8)), ` ${reason}.`))),
            h(Table, { caption: "Orphans", jobs: orphans.map((orphan) => orphan.job), now: answer.now, go, mayCancel: answer.may_cancel, onDone: again }))),
    h(Days, { days: answer.by_day }),
    h("div", { className: "mb-cards" },
      h(Bars, { title: `${what} by Dag this month`, groups: answer.by_dag, value, label }),
      h(Bars, { title: `${what} by model this month`, groups: answer.by_model, value, label })));
}

// ---- The parts ---------------------------------------------------------------------------------------------------

const Page = ({ children }) => h("div", { className: "mb-page" }, children);

function BatchesPart() {
  const [place, go] = usePlace();
  const view = place.view ?? "jobs";
  const tab = (name, text) =>
    h("button", { type: "button", "aria-current": view === name ? "page" : undefined, onClick: () => go({ view: name === "jobs" ? "" : name, id: "" }) }, text);
  return h(Page, null,
    h("h1", null, "Mistral batches"),
    view !== "job" && h("nav", { "aria-label": "Views", className: "mb-tabs" }, tab("jobs", "Batches"), tab("overview", "Overview")),
    view === "job" ? h(Job, { key: place.id, id: place.id ?? "", go, back: () => go({ view: "", id: "" }) })
      : view === "overview" ? h(Overview, { go }) : h(Batches, { place, go }));
}

function TaskPart({ dagId, runId, taskId, mapIndex }) {
  const [place, go] = usePlace();
  // Airflow has no tab at a mapped task as a whole: the tab of one instance shows the others', too, if asked.
  const isMapped = mapIndex != null && mapIndex !== "" && Number(mapIndex) >= 0;
  const isOne = isMapped && !place.all;
  const path = `api/tasks/${segment(dagId ?? "")}/${segment(runId ?? "")}/${segment(taskId ?? "")}${isOne ? `?map_index=${mapIndex}` : ""}`;
  const { answer, error, again } = useAnswer(path, isSomeRunning);
  if (place.view === "job") return h(Page, null, h(Job, { key: place.id, id: place.id ?? "", go, back: () => go({ view: "", id: "" }) }));
  return h(Page, null, h(Trouble, { error }),
    !answer ? !error && h("p", { className: "mb-muted", role: "status" }, "Reading the jobs…")
      : h(React.Fragment, null, h(Connections, { answer }),
          isMapped && h("div", { className: "mb-filters" },
            h(Choice, { label: "Jobs of", value: place.all, all: `Map index ${mapIndex}`, options: [["1", "All map indexes"]], onChange: (all) => go({ all }) })),
          answer.jobs.length === 0
            ? h(Note, { title: "No batch jobs." }, "This task has submitted none in the last 35 days, or you may not see them.")
            : h(Table, { caption: "Jobs of this task", jobs: answer.jobs, now: answer.now, go, mayCancel: answer.may_cancel, onDone: again })));
}

function DagPart({ dagId }) {
  const { answer, error } = useAnswer(`api/dags/${segment(dagId ?? "")}`, () => false);
  if (!answer) return h(Page, null, error ? h(Trouble, { error }) : h("p", { className: "mb-muted", role: "status" }, "Reading the runs…"));
  return h(Page, null, h(Trouble, { error }), h(Connections, { answer }),
    answer.runs.length === 0 ? h(Note, { title: "No batches." }, "No run of this Dag has submitted a batch in the last 35 days, or you may not see it.")
      : h("div", { className: "mb-cards" },
          h(Bars, { title: "Requests by run", groups: answer.runs, value: (run) => run.requests, label: (run) => `${number(run.requests)}${run.failed ? `, ${number(run.failed)} failed` : ""}` }),
          answer.runs.some((run) => run.cost_usd != null) && h(Bars, { title: "Cost by run", groups: answer.runs, value: (run) => run.cost_usd ?? 0, label: (run) => dollars(run.cost_usd) })));
}

if (!document.getElementById("mistral-batches-style")) {
  const style = Object.assign(document.createElement("link"), { id: "mistral-batches-style", rel: "stylesheet", href: new URL("page.css", import.meta.url).href });
  document.head.append(style);
}

const component = { "mistral-batches": BatchesPart, "mistral-batch": TaskPart, "mistral-batch-runs": DagPart }[part];
globalThis[NAMES[part]] = component;
globalThis.AirflowPlugin = component;
