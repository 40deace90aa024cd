//! Host and path → route.

use super::RouteId;
use crate::h1::Method;

/// The routing table.
#[derive(Debug, Default)]
pub struct Router {}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub hosts: Vec<HostPattern>,
    pub path: PathPattern,
    pub methods: Vec<MethodName>,
    pub route: RouteId,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    Exact(Box<str>),
    Suffix(Box<str>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathPattern {
    Exact(Box<str>),
    Prefix(Box<str>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MethodName {
    Known(Method),
    Custom(Box<str>),
}

impl Router {
    pub fn build(_rules: Vec<Rule>) -> Router {
        Router {}
    }
}

/// Rules that no request can reach, each with the rule that takes their requests.
pub fn unreachable(rules: &[Rule]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (at, rule) in rules.iter().enumerate() {
        let same =
            |r: &&Rule| r.hosts == rule.hosts && r.path == rule.path && r.methods == rule.methods;
        if let Some(first) = rules[..at].iter().position(|r| same(&r)) {
            found.push((at, first));
        }
    }
    found
}
