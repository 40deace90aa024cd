//! Backends as an operator sees and moves them: `/backends`.
//!
//! Decides: which backend is meant, what a row holds, and whether a change is allowed. May not know: sockets, shards.
//! Invariant: a change is applied whole or not at all, and is said once, with who asked for it.

use std::fmt::{Display, Write};
use std::net::SocketAddr;

use crate::config::plan::{Level, Plan};
use crate::config::report::nearest;
use crate::json::Object;
use crate::log::{event_json, rfc3339};
use crate::policy::BackendId;
use crate::policy::health::{Checks, Mode, Standing, Word};

use super::parse::{Form, Order, Refusal, Which, shown};
use super::{AdminState, Moment};

/// Backends that are named to who asked for one that there is not.
const NAMED_MAX: usize = 20;

/// What is known of one backend now.
#[derive(Debug)]
pub(super) struct Row<'a> {
    pub(super) cluster: &'a str,
    pub(super) backend: &'a str,
    pub(super) word: Word,
    /// Of the last change; the process's start before the first one.
    pub(super) since_unix_ms: u64,
    pub(super) cause: String,
    pub(super) weight: u32,
    pub(super) configured_weight: u32,
    pub(super) backup: bool,
    pub(super) inflight: u64,
    pub(super) connections: u32,
    /// The age at which it closes idle connections, where that was learned.
    pub(super) idle_timeout_ms: Option<u64>,
    /// Until it is let in, where it is out for a time.
    pub(super) left_ms: Option<u64>,
}

pub(super) fn row(state: &AdminState, id: BackendId, moment: Moment) -> Row<'_> {
    let plan = &state.shared.plan;
    let backend = &plan.backends[id.0 as usize];
    let backends = &state.shared.backends;
    let word = backends.word(id);
    let (since_unix_ms, cause) = match state.ledger.history(id).changes.back() {
        Some(last) if last.to == word.standing() => (last.unix_ms, last.why.to_string()),
        None if word.standing() == Standing::Available => {
            (state.info.start_unix_ms, "start".to_owned())
        }
        Some(_) | None => (moment.unix_ms, "not reported yet".to_owned()),
    };
    let left_ns = match word.standing() {
        Standing::Ejected | Standing::Open => word.left_ns(moment.now),
        Standing::Available
        | Standing::HalfOpen
        | Standing::Draining
        | Standing::Maintenance
        | Standing::Down => None,
    };
    let inflight = state.shared.metrics.iter();
    Row {
        cluster: &plan.clusters[backend.cluster.0 as usize].name,
        backend: &backend.url,
        word,
        since_unix_ms,
        cause,
        weight: backends.weight(id),
        configured_weight: backend.weight,
        backup: backend.backup,
        inflight: inflight.map(|shard| shard.backend(id).inflight()).sum(),
        connections: backends.connections(id),
        idle_timeout_ms: backends.idle_ns(id).map(|ns| ns / 1_000_000),
        left_ms: left_ns.map(|ns| ns / 1_000_000),
    }
}

pub(super) fn checks_name(checks: Checks) -> &'static str {
    match checks {
        Checks::Unknown => "unknown",
        Checks::Up => "up",
        Checks::Down => "down",
    }
}

impl Row<'_> {
    pub(super) fn describe(&self, out: &mut Object) {
        out.text("cluster", self.cluster);
        out.text("backend", self.backend);
        out.text("standing", self.word.standing().name());
        out.text("mode", self.word.mode().name());
        out.text("checks", checks_name(self.word.checks()));
        out.text("since", &rfc3339(self.since_unix_ms));
        out.text("cause", &self.cause);
        out.number("weight", self.weight);
        out.number("configured_weight", self.configured_weight);
        out.number("backup", self.backup);
        out.number("inflight", self.inflight);
        out.number("connections", self.connections);
        out.optional("idle_timeout_ms", self.idle_timeout_ms);
        out.optional("left_ms", self.left_ms);
    }

    fn json(&self) -> String {
        let mut out = Object::default();
        self.describe(&mut out);
        out.finish()
    }

    fn cells(&self) -> [String; COLUMNS.len()] {
        let standing = self.word.standing().name();
        [
            self.cluster.to_owned(),
            self.backend.to_owned(),
            match self.left_ms {
                Some(left_ms) => format!("{standing}, {} s left", left_ms.div_ceil(1000)),
                None => standing.to_owned(),
            },
            self.word.mode().name().to_owned(),
            checks_name(self.word.checks()).to_owned(),
            match (self.weight == self.configured_weight, self.backup) {
                (true, false) => self.weight.to_string(),
                (true, true) => format!("{}, backup", self.weight),
                (false, false) => format!("{}, configured {}", self.weight, self.configured_weight),
                (false, true) => {
                    let (now, configured) = (self.weight, self.configured_weight);
                    format!("{now}, configured {configured}, backup")
                }
            },
            self.inflight.to_string(),
            self.connections.to_string(),
            rfc3339(self.since_unix_ms),
            self.cause.clone(),
        ]
    }
}

const COLUMNS: [&str; 10] = [
    "CLUSTER",
    "BACKEND",
    "STANDING",
    "MODE",
    "CHECKS",
    "WEIGHT",
    "IN FLIGHT",
    "CONNECTIONS",
    "SINCE",
    "CAUSE",
];

fn table(rows: &[Row<'_>]) -> String {
    let head = COLUMNS.map(str::to_owned);
    let lines: Vec<_> = std::iter::once(head)
        .chain(rows.iter().map(Row::cells))
        .collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let widths: Vec<usize> = (0..COLUMNS.len())
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let mut out = String::new();
    for line in &lines {
        let mut text = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            let _ = write!(text, "{cell:width$}  ");
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

pub(super) fn list(state: &AdminState, which: &Which, form: Form) -> Result<String, Refusal> {
    let plan = &state.shared.plan;
    if let Some(cluster) = &which.cluster {
        needs_cluster(plan, cluster)?;
    }
    let found = matching(plan, which);
    if found.is_empty()
        && let Some(backend) = &which.backend
    {
        return Err(no_such_backend(plan, backend, which));
    }
    let moment = state.moment();
    let rows: Vec<Row<'_>> = found.iter().map(|id| row(state, *id, moment)).collect();
    Ok(match form {
        Form::Text => table(&rows),
        Form::Json => {
            let rows: Vec<String> = rows.iter().map(Row::json).collect();
            format!("[{}]\n", rows.join(",\n"))
        }
    })
}

/// One row, after a change.
pub(super) fn one(state: &AdminState, id: BackendId, form: Form) -> String {
    let row = row(state, id, state.moment());
    match form {
        Form::Text => table(&[row]),
        Form::Json => row.json() + "\n",
    }
}

/// The one backend that is meant.
pub(super) fn find(plan: &Plan, which: &Which) -> Result<BackendId, Refusal> {
    if let Some(cluster) = &which.cluster {
        needs_cluster(plan, cluster)?;
    }
    let backend = which.backend.as_deref().unwrap_or_default();
    match matching(plan, which).as_slice() {
        [] => Err(no_such_backend(plan, backend, which)),
        [id] => Ok(*id),
        all => {
            let clusters = all.iter().map(|id| cluster_name(plan, *id));
            let clusters: Vec<String> = clusters.map(|name| format!("cluster={name}")).collect();
            Err(Refusal::new(
                400,
                format!(
                    "{} is in more than one cluster: add {}",
                    shown(backend),
                    clusters.join(" or ")
                ),
            ))
        }
    }
}

fn matching(plan: &Plan, which: &Which) -> Vec<BackendId> {
    let all = (0_u32..).map(BackendId).take(plan.backends.len());
    let fits = |id: &BackendId| {
        let (cluster, backend) = (which.cluster.as_deref(), which.backend.as_deref());
        let url = &plan.backends[id.0 as usize].url;
        cluster.is_none_or(|name| cluster_name(plan, *id) == name)
            && backend.is_none_or(|asked| is_same(asked, url))
    };
    all.filter(fits).collect()
}

/// `http://` and a slash at the end may be left out.
fn is_same(asked: &str, url: &str) -> bool {
    let bare = |url: &str| {
        let url = url.strip_suffix('/').unwrap_or(url);
        url.strip_prefix("http://").unwrap_or(url).to_owned()
    };
    // The names of files have a case, those of hosts have not.
    asked == url || !url.starts_with("unix:") && bare(asked).eq_ignore_ascii_case(&bare(url))
}

fn cluster_name(plan: &Plan, id: BackendId) -> &str {
    &plan.clusters[plan.backends[id.0 as usize].cluster.0 as usize].name
}

fn needs_cluster(plan: &Plan, name: &str) -> Result<(), Refusal> {
    let mut names = plan.clusters.iter().map(|cluster| &*cluster.name);
    if names.any(|known| known == name) {
        return Ok(());
    }
    let names: Vec<&str> = plan.clusters.iter().map(|cluster| &*cluster.name).collect();
    let text = format!("there is no cluster {}", shown(name));
    Err(Refusal::new(404, text + &instead(name, &names)))
}

fn no_such_backend(plan: &Plan, backend: &str, which: &Which) -> Refusal {
    let all = Which {
        backend: None,
        cluster: which.cluster.clone(),
    };
    let urls = matching(plan, &all)
        .into_iter()
        .map(|id| &*plan.backends[id.0 as usize].url);
    let text = match &which.cluster {
        None => format!("there is no backend {}", shown(backend)),
        Some(cluster) => format!("cluster {cluster} has no backend {}", shown(backend)),
    };
    // What may be left out must not make it look like another one.
    let whole = if backend.contains("://") || backend.starts_with("unix:") {
        backend.to_owned()
    } else {
        format!("http://{backend}")
    };
    Refusal::new(404, text + &instead(&whole, &urls.collect::<Vec<_>>()))
}

/// What there is, the one that is most likely meant first.
fn instead(name: &str, known: &[&str]) -> String {
    let mut out = String::new();
    let near = nearest(name, known.iter().copied());
    if let Some(near) = near {
        let _ = write!(out, ": did you mean {near}?");
    }
    out.push_str("\nthere are:");
    let others = known.iter().copied().filter(|name| Some(*name) != near);
    for name in near.into_iter().chain(others).take(NAMED_MAX) {
        let _ = write!(out, "\n  {name}");
    }
    if known.len() > NAMED_MAX {
        let _ = write!(out, "\n  and {} more", known.len() - NAMED_MAX);
    }
    out
}

/// Applies what the operator wants, and says so.
pub(super) fn change(
    state: &AdminState,
    from: SocketAddr,
    which: &Which,
    order: Order,
) -> Result<BackendId, Refusal> {
    let (plan, backends) = (&state.shared.plan, &state.shared.backends);
    let id = find(plan, which)?;
    if order.weight == Some(0) {
        leaves_some(state, id)?;
    }
    let moment = state.moment();
    if let Some(weight) = order.weight {
        backends.set_weight(id, weight);
    }
    if let Some(mode) = order.mode {
        backends.set_mode(id, mode, moment.now);
    }
    let row = row(state, id, moment);
    let mode = order.mode.map(Mode::name);
    let mut fields: Vec<(&str, &dyn Display)> = vec![
        ("peer", &from),
        ("cluster", &row.cluster),
        ("backend", &row.backend),
    ];
    fields.extend(mode.as_ref().map(|mode| ("mode", mode as &dyn Display)));
    let weight = order.weight.as_ref();
    fields.extend(weight.map(|weight| ("weight", weight as &dyn Display)));
    fields.push(("inflight", &row.inflight));
    let text = "the operator changes a backend";
    state.events.say(moment.unix_ms, Level::Info, text, &fields);
    let line = event_json(moment.unix_ms, Level::Info, text, &fields);
    state.ledger.tell(&line.into());
    Ok(id)
}

/// Whoever is not a backup must keep some weight.
fn leaves_some(state: &AdminState, id: BackendId) -> Result<(), Refusal> {
    let plan = &state.shared.plan;
    let of = |id: BackendId| &plan.backends[id.0 as usize];
    let cluster = &plan.clusters[of(id).cluster.0 as usize];
    let weighs = |other: &BackendId| *other != id && state.shared.backends.weight(*other) > 0;
    let mut others = cluster.backends.iter().filter(|id| !of(**id).backup);
    if of(id).backup || others.any(weighs) {
        return Ok(());
    }
    let text = format!(
        "no backend of cluster {} but its backups would have a weight: to take this one out, drain it",
        cluster.name
    );
    Err(Refusal::new(409, text))
}

/// The last change of the backend's standing has been reported, so that a row shows its cause.
pub(super) fn is_reported(state: &AdminState, id: BackendId) -> bool {
    let standing = state.shared.backends.word(id).standing();
    match state.ledger.history(id).changes.back() {
        Some(last) => last.to == standing,
        None => standing == Standing::Available,
    }
}
