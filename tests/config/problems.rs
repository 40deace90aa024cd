//! Every problem has its report, and no text is too broken for one.

use std::path::Path;

use corelane::config::{self, Source};

use super::{file, load, long_reference, pair};

const PROBLEMS: &str = "tests/config/problems.txt";

struct Case {
    name: String,
    environment: Vec<(String, String)>,
    toml: String,
    report: String,
}

fn cases(text: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    for part in text.split("\n=== ").skip(1) {
        let (head, rest) = part.split_once("--- toml\n").expect(part);
        let (toml, report) = rest.split_once("--- report").expect(part);
        let mut lines = head.lines();
        cases.push(Case {
            name: lines.next().unwrap().to_owned(),
            environment: lines
                .map(|line| pair(line.split_once('=').expect(line)))
                .collect(),
            toml: toml.to_owned(),
            report: report.trim().to_owned(),
        });
    }
    cases
}

#[test]
fn every_problem_has_its_report() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PROBLEMS);
    let text = std::fs::read_to_string(&path).unwrap();
    let bless = std::env::var_os("BLESS").is_some();
    let mut blessed = text.split("\n=== ").next().unwrap().to_owned();
    for case in cases(&text) {
        // A case named so has the line ends of another system.
        let toml = if case.name.starts_with("carriage returns") {
            case.toml.replace('\n', "\r\n")
        } else {
            case.toml.clone()
        };
        let source = Source {
            environment: &case.environment,
            files: &file,
            ..Source::of("config.toml", &toml)
        };
        let report = config::load(source)
            .map(|_| "no problem".to_owned())
            .unwrap_or_else(|problems| problems.to_string());
        // Trailing spaces do not survive editors.
        let report = report
            .lines()
            .map(str::trim_end)
            .collect::<Vec<_>>()
            .join("\n");
        if !bless {
            assert_eq!(report, case.report, "{}\n{report}", case.name);
        }
        let variables: String = case
            .environment
            .iter()
            .map(|(name, value)| format!("{name}={value}\n"))
            .collect();
        blessed += &format!(
            "\n=== {}\n{variables}--- toml\n{}--- report\n{report}\n",
            case.name, case.toml
        );
    }
    if bless {
        std::fs::write(&path, blessed).unwrap();
    }
}

#[test]
fn a_file_cut_or_spoiled_anywhere_gives_a_report_or_a_plan() {
    let text = long_reference();
    for at in (0..text.len())
        .filter(|at| text.is_char_boundary(*at))
        .step_by(29)
    {
        let _ = load(&text[..at], &[], &[]);
    }
    for at in (0..text.len())
        .filter(|at| text.is_char_boundary(*at) && text.is_char_boundary(at + 1))
        .step_by(97)
    {
        for spoil in ["\"", "[", "=", "\n", "${", "\u{0}", "é"] {
            let _ = load(
                &format!("{}{spoil}{}", &text[..at], &text[at + 1..]),
                &[],
                &[],
            );
        }
    }
    let deep = format!("a = {}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(load(&deep, &[], &[]).is_err());
}
