//! The effective configuration, as TOML that loads to the same plan.
//!
//! Decides: order and form of `corelane config show`. May not know: plans. Invariant: every key of the top
//! level is shown; a cluster or a route shows what it sets itself, the rest it inherits.

use std::fmt::Write;

use super::causes::show_statuses;
use super::file::{Backend, File, Limit, Part, Settings};
use super::matching;
use super::pages::Page as ErrorPage;
use super::report::{At, Lines};
use super::value::{array, show, string};
use crate::policy::retry::Statuses;
use crate::policy::route::{HostPattern, MethodName, PathPattern};

/// With `origins`, each value says where it came from.
pub(super) fn render(
    file: &File,
    defaults: &Settings,
    name: &str,
    text: &str,
    origins: bool,
) -> String {
    let mut page = Page {
        out: String::new(),
        origins,
        name,
        lines: Lines::new(text),
    };
    if let Some(backends) = &file.backends {
        page.key("backends", &show_backends(&backends.value), &backends.at);
    }
    let mut effective = defaults.clone();
    effective.extend(
        file.settings
            .iter()
            .map(|(key, found)| (*key, found.clone())),
    );
    // A list of its own must stand before the first section.
    if file.rate_limits.as_ref().is_some_and(Vec::is_empty) {
        page.line("rate_limits = []");
    }
    page.sections("", &effective);
    page.limits("", file.rate_limits.as_deref());
    page.pages("", &file.error_pages);
    for cluster in &file.clusters {
        page.line("\n[[clusters]]");
        if let Some(name) = &cluster.name {
            page.key("name", &string(&name.value), &name.at);
        }
        if let Some(backends) = &cluster.backends {
            page.key("backends", &show_backends(&backends.value), &backends.at);
        }
        if let Some(failover) = &cluster.failover {
            page.key("failover", &string(&failover.value), &failover.at);
        }
        page.sections("clusters.", &cluster.settings);
    }
    for route in &file.routes {
        page.line("\n[[routes]]");
        if let Some(name) = &route.name {
            page.key("name", &string(&name.value), &name.at);
        }
        if let Some(cluster) = &route.cluster {
            page.key("cluster", &string(&cluster.value), &cluster.at);
        }
        if let Some(split) = &route.split {
            page.key("split", &show_split(&split.value), &split.at);
        }
        if let Some(header) = &route.split_header {
            page.key("split_header", &string(&header.value), &header.at);
        }
        if let Some(hosts) = route.hosts.as_ref().filter(|hosts| !hosts.is_empty()) {
            page.key("hosts", &array(hosts.iter().map(show_host)), &route.at);
        }
        match &route.path {
            Some(PathPattern::Exact(path)) => page.key("path", &string(path), &route.at),
            Some(PathPattern::Prefix(path)) => page.key("path_prefix", &string(path), &route.at),
            None => {}
        }
        if let Some(methods) = route.methods.as_ref().filter(|methods| !methods.is_empty()) {
            page.key(
                "methods",
                &array(methods.iter().map(show_method)),
                &route.at,
            );
        }
        for (name, value) in matching::show(route) {
            page.key(name, &value, &route.at);
        }
        if route.rate_limits.as_ref().is_some_and(Vec::is_empty) {
            page.line("rate_limits = []");
        }
        page.sections("routes.", &route.settings);
        page.limits("routes.", route.rate_limits.as_deref());
        page.pages("routes.", &route.error_pages);
    }
    page.out
}

struct Page<'a> {
    out: String,
    origins: bool,
    name: &'a str,
    lines: Lines<'a>,
}

impl Page<'_> {
    fn sections(&mut self, prefix: &str, settings: &Settings) {
        let mut section = "";
        for (key, found) in settings {
            if key.section() != section {
                section = key.section();
                self.line(&format!("\n[{prefix}{section}]"));
            }
            self.key(key.leaf(), &show(*key, &found.value), &found.at);
        }
    }

    fn limits(&mut self, prefix: &str, limits: Option<&[Limit]>) {
        for limit in limits.unwrap_or_default() {
            self.line(&format!("\n[[{prefix}rate_limits]]"));
            if let Some(name) = &limit.name {
                self.key("name", &string(&name.value), &name.at);
            }
            for (key, found) in &limit.settings {
                self.key(key.leaf(), &show(*key, &found.value), &found.at);
            }
        }
    }

    fn pages(&mut self, prefix: &str, pages: &[ErrorPage]) {
        for page in pages {
            self.line(&format!("\n[[{prefix}error_pages]]"));
            if let Some(statuses) = &page.statuses {
                let statuses = Statuses(statuses.as_slice().into());
                let shown = array(show_statuses(&statuses));
                self.key("status", &shown, &page.at);
            }
            if let Some(body) = &page.body {
                self.key("content_type", &string(&body.content_type), &page.at);
                self.key("body", &string(&body.written), &page.at);
            }
        }
    }

    fn key(&mut self, name: &str, value: &str, at: &At) {
        let origin = match at {
            _ if !self.origins => String::new(),
            At::Default => "  # from: default".to_owned(),
            At::File(span) => format!("  # from: {}:{}", self.name, self.lines.number(span.start)),
            At::Env(variable) => format!("  # from: env {variable}"),
            At::Flag(flag) => format!("  # from: flag {flag}"),
        };
        self.line(&format!("{name} = {value}{origin}"));
    }

    fn line(&mut self, line: &str) {
        writeln!(self.out, "{line}").expect("writing to a string does not fail");
    }
}

fn show_backends(backends: &[Backend]) -> String {
    let each = backends.iter().map(|backend| {
        let url = string(&backend.url);
        let weight = show_weight(backend.weight);
        match (weight.as_str(), backend.backup) {
            ("", false) => url,
            (weight, false) => format!("{{ url = {url}{weight} }}"),
            (weight, true) => format!("{{ url = {url}{weight}, backup = true }}"),
        }
    });
    format!("[{}]", each.collect::<Vec<_>>().join(", "))
}

fn show_split(parts: &[Part]) -> String {
    let each = parts.iter().map(|part| {
        let cluster = part.cluster.as_ref().map_or("", |cluster| &cluster.value);
        let weight = show_weight(part.weight);
        format!("{{ cluster = {}{weight} }}", string(cluster))
    });
    format!("[{}]", each.collect::<Vec<_>>().join(", "))
}

fn show_weight(weight: Option<u32>) -> String {
    weight.map_or_else(String::new, |weight| format!(", weight = {weight}"))
}

fn show_host(host: &HostPattern) -> String {
    match host {
        HostPattern::Exact(host) => host.to_string(),
        HostPattern::Suffix(suffix) => format!("*.{suffix}"),
    }
}

fn show_method(method: &MethodName) -> String {
    match method {
        MethodName::Known(method) => format!("{method:?}").to_ascii_uppercase(),
        MethodName::Custom(name) => name.to_string(),
    }
}
