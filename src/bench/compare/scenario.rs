//! What is compared, and what is to be reached.
//!
//! Decides: scenarios, their variants and bounds. May not know: how they are measured. Invariant: variants of a
//! scenario differ in one thing only; growth counts from the variant that is marked as the base.

use super::peer::{Feature, Kind, ORIGIN};

/// Connections of the scenarios that do not grow.
const CONNECTIONS: u32 = 64;
/// Large bodies: what is in flight when counting ends would be much of so few requests.
const CONNECTIONS_LARGE: u32 = 8;
pub(super) const IDLE_CONNECTIONS: u32 = 5000;

/// 1 KB of request, as a browser sends it.
const BROWSER_FIELDS: [(&str, &str); 15] = [
    (
        "User-Agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0 Safari/537.36",
    ),
    (
        "Accept",
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8",
    ),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    (
        "Accept-Language",
        "en-GB,en;q=0.9,de-DE;q=0.8,de;q=0.7,fr;q=0.6",
    ),
    ("Cache-Control", "max-age=0"),
    (
        "Cookie",
        "session=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef; theme=dark; consent=all; _ga=GA1.1.1234567890.1700000000",
    ),
    (
        "Referer",
        "https://www.example.org/articles/2026/11/a-page-with-a-long-name?utm_source=newsletter",
    ),
    (
        "Sec-Ch-Ua",
        "\"Chromium\";v=\"143\", \"Not A(Brand\";v=\"24\", \"Google Chrome\";v=\"143\"",
    ),
    ("Sec-Ch-Ua-Mobile", "?0"),
    ("Sec-Ch-Ua-Platform", "\"Linux\""),
    ("Sec-Fetch-Dest", "document"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Site", "same-origin"),
    ("Sec-Fetch-User", "?1"),
    ("Upgrade-Insecure-Requests", "1"),
];

/// What is to be reached. Growth and latency are judged in the rounds of one run, like ratios.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Bound {
    /// CPU time per request, as a part of that one's.
    Cpu(Kind, f64),
    /// Bytes of an idle connection.
    Idle(f64),
    /// CPU time per request of a variant, as a multiple of the base variant's.
    Growth { variant: &'static str, most: f64 },
    /// The same, compared with nginx's own growth.
    GrowthOfNginx { variant: &'static str },
    /// p50 and p99 at half of nginx's rate, as a part of nginx's.
    Latency,
}

/// How a scenario is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    /// At saturation, then latencies at a fixed rate.
    Load,
    /// At saturation only: of few large requests, or of variants, latencies would say little.
    Saturation,
    /// The memory of connections that do nothing.
    Idle,
}

pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) method: Method,
    /// The first is the only one, or the base.
    pub(super) variants: Vec<Variant>,
    pub(super) bounds: Vec<Bound>,
}

/// One load against one kind of set-up.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Variant {
    pub(super) label: &'static str,
    pub(super) feature: Feature,
    pub(super) path: String,
    pub(super) fields: Vec<(String, String)>,
    pub(super) body_bytes: u64,
    pub(super) is_chunked: bool,
    pub(super) keep_alive: bool,
    /// Requests in flight.
    pub(super) users: u32,
    /// That the users take turns on.
    pub(super) connections: u32,
    /// Beside those.
    pub(super) idle: u32,
    pub(super) backends: u32,
    pub(super) routes: u32,
    pub(super) status: u16,
    /// Of the answer's body; `None`: whatever the refusal says.
    pub(super) answer_bytes: Option<u64>,
}

fn plain(path: &str, answer_bytes: u64) -> Variant {
    Variant {
        label: "",
        feature: Feature::Plain,
        path: path.to_owned(),
        fields: Vec::new(),
        body_bytes: 0,
        is_chunked: false,
        keep_alive: true,
        users: CONNECTIONS,
        connections: CONNECTIONS,
        idle: 0,
        backends: 1,
        routes: 1,
        status: 200,
        answer_bytes: Some(answer_bytes),
    }
}

fn small() -> Variant {
    plain("/", 100)
}

fn connections(label: &'static str, connections: u32, idle: u32) -> Variant {
    Variant {
        label,
        users: connections.min(CONNECTIONS),
        connections,
        idle,
        ..small()
    }
}

fn upload(bytes: u64) -> Variant {
    Variant {
        body_bytes: bytes,
        ..small()
    }
}

fn one(name: &'static str, about: &'static str, variant: Variant, cpu: Option<f64>) -> Scenario {
    let cpu = cpu.map(|most| Bound::Cpu(Kind::Nginx, most));
    Scenario {
        name,
        about,
        method: Method::Load,
        variants: vec![variant],
        bounds: cpu.into_iter().chain([Bound::Latency]).collect(),
    }
}

fn large(name: &'static str, about: &'static str, variant: Variant, cpu: f64) -> Scenario {
    let variant = Variant {
        users: CONNECTIONS_LARGE,
        connections: CONNECTIONS_LARGE,
        ..variant
    };
    Scenario {
        method: Method::Saturation,
        bounds: vec![Bound::Cpu(Kind::Nginx, cpu)],
        ..one(name, about, variant, None)
    }
}

fn growth(
    name: &'static str,
    about: &'static str,
    variants: Vec<Variant>,
    bounds: Vec<Bound>,
) -> Scenario {
    Scenario {
        method: Method::Saturation,
        variants,
        bounds,
        ..one(name, about, small(), None)
    }
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// All of them, in the order in which they run.
pub(super) fn all() -> Vec<Scenario> {
    let mut scenarios = messages();
    scenarios.extend(features());
    scenarios.extend(growths());
    scenarios
}

fn messages() -> Vec<Scenario> {
    let browser = Variant {
        fields: BROWSER_FIELDS
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        ..plain("/4k", 4 * KIB)
    };
    let chunked_upload = Variant {
        is_chunked: true,
        ..upload(64 * KIB)
    };
    let fresh = Variant {
        keep_alive: false,
        ..small()
    };
    let about = "100-byte responses, 64 keep-alive connections";
    vec![
        one("small", about, small(), Some(0.75)),
        one(
            "browser",
            "a browser's 1 KB request, 4 KiB response",
            browser,
            Some(0.68),
        ),
        one(
            "64k",
            "64 KiB responses",
            plain("/64k", 64 * KIB),
            Some(0.70),
        ),
        one(
            "64k-chunked",
            "64 KiB responses, chunked",
            plain("/64k-chunked", 64 * KIB),
            Some(0.70),
        ),
        one("upload-64k", "64 KiB uploads", upload(64 * KIB), Some(0.65)),
        one(
            "upload-chunked",
            "64 KiB uploads, chunked",
            chunked_upload,
            None,
        ),
        large(
            "10m",
            "10 MiB responses, 8 connections",
            plain("/10m", 10 * MIB),
            0.85,
        ),
        large(
            "upload-10m",
            "10 MiB uploads, 8 connections",
            upload(10 * MIB),
            0.85,
        ),
        one(
            "new-connection",
            "a new connection per request",
            fresh,
            Some(0.90),
        ),
    ]
}

fn features() -> Vec<Scenario> {
    let with = |feature, variant| Variant { feature, ..variant };
    let rejected = Variant {
        status: 429,
        answer_bytes: None,
        ..with(Feature::Limit, small())
    };
    let cached = |path, bytes| with(Feature::Cache, plain(path, bytes));
    vec![
        Scenario {
            method: Method::Saturation,
            bounds: vec![Bound::Cpu(Kind::Nginx, 0.85)],
            ..one(
                "log",
                "100-byte responses, one JSON line each into a file",
                with(Feature::AccessLog, small()),
                None,
            )
        },
        Scenario {
            bounds: vec![
                Bound::Cpu(Kind::Haproxy, 0.65),
                Bound::Cpu(Kind::Nginx, 0.55),
                Bound::Cpu(Kind::Varnish, 0.30),
            ],
            ..one(
                "cached",
                "4 KiB from the proxy's cache",
                cached("/cache/page/4k", 4 * KIB),
                None,
            )
        },
        Scenario {
            bounds: Vec::new(),
            ..one(
                "cached-64k",
                "64 KiB from the proxy's cache",
                cached("/cache/page/64k", 64 * KIB),
                None,
            )
        },
        Scenario {
            bounds: vec![Bound::Cpu(Kind::Nginx, 0.90)],
            ..one("rejected", "refused by a rate limit", rejected, None)
        },
        filtered(),
        compressed(),
    ]
}

/// The same requests with and without filters, so that their difference is what filters cost.
fn filtered() -> Scenario {
    let fields = [("Origin", ORIGIN), ("X-Debug", "1")];
    let variant = |label, feature| Variant {
        label,
        feature,
        fields: fields
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        ..small()
    };
    growth(
        "filtered",
        "100-byte responses through request id, edited heads, CORS and a rate limit that refuses nobody",
        vec![
            variant("no filters", Feature::Plain),
            variant("four filters", Feature::Filters),
        ],
        vec![Bound::Growth {
            variant: "four filters",
            most: 1.05,
        }],
    )
}

fn compressed() -> Scenario {
    let variant = |label, feature| Variant {
        label,
        feature,
        fields: vec![("Accept-Encoding".to_owned(), "gzip".to_owned())],
        // What is left of them is each encoder's own.
        answer_bytes: None,
        ..plain("/64k-text", 64 * KIB)
    };
    growth(
        "compressed",
        "64 KiB of HTML in gzip",
        vec![
            variant("default levels", Feature::Gzip),
            variant("level 5", Feature::GzipAlike),
        ],
        Vec::new(),
    )
}

fn growths() -> Vec<Scenario> {
    let backends = |label, backends| Variant {
        label,
        backends,
        ..small()
    };
    // The last route: a proxy that tries one after the other has to try all.
    let routes = |label, routes: u32| Variant {
        label,
        path: match routes {
            1 => "/".to_owned(),
            count => format!("/r{}/", count - 1),
        },
        routes,
        ..small()
    };
    vec![
        Scenario {
            method: Method::Idle,
            bounds: vec![Bound::Idle(1024.0)],
            ..one(
                "idle",
                "memory of 5,000 idle connections, each after one request",
                small(),
                None,
            )
        },
        growth(
            "connections",
            "100-byte responses on a growing number of connections",
            vec![
                connections("64", 64, 0),
                connections("1", 1, 0),
                connections("1,000 in turn", 1000, 0),
                connections("5,000 in turn", 5000, 0),
                connections("64, 4,936 idle", 64, 4936),
            ],
            vec![
                Bound::Growth {
                    variant: "64, 4,936 idle",
                    most: 1.05,
                },
                Bound::GrowthOfNginx {
                    variant: "5,000 in turn",
                },
            ],
        ),
        growth(
            "backends",
            "100-byte responses from a growing number of backends",
            vec![
                backends("1", 1),
                backends("100", 100),
                backends("1,000", 1000),
            ],
            vec![Bound::Growth {
                variant: "1,000",
                most: 1.05,
            }],
        ),
        growth(
            "routes",
            "100-byte responses with a growing number of routes",
            vec![
                routes("1", 1),
                routes("100", 100),
                routes("1,000", 1000),
                routes("10,000", 10_000),
            ],
            vec![Bound::Growth {
                variant: "10,000",
                most: 1.05,
            }],
        ),
    ]
}

/// Named in the issue tracker and not here yet, with what it waits for.
pub(super) const WAITING: [(&str, &str); 1] = [("tls", "TLS on client connections")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_bounds_name_variants() {
        let all = all();
        for (at, scenario) in all.iter().enumerate() {
            let name = scenario.name;
            assert!(all[..at].iter().all(|other| other.name != name), "{name}");
            for bound in &scenario.bounds {
                match bound {
                    Bound::Growth { variant, .. } | Bound::GrowthOfNginx { variant } => {
                        let later = &scenario.variants[1..];
                        assert!(later.iter().any(|one| one.label == *variant), "{bound:?}");
                    }
                    Bound::Cpu(_, _) | Bound::Idle(_) | Bound::Latency => {
                        assert_eq!(scenario.variants.len(), 1, "{bound:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_browser_sends_a_kilobyte() {
        let bytes = |(name, value): (&str, &str)| name.len() + value.len() + 4;
        let all: usize = BROWSER_FIELDS.map(bytes).iter().sum();
        assert!((900..=1100).contains(&all), "{all}");
    }
}
