//! What must stay secret is on no page and in no report.

use corelane::config::{self, Source};

use super::{ARGON2, BCRYPT, file, pair};

/// No part of what must stay secret: passwords' hashes, keys, secrets, and what was meant to be one.
const SECRETS: [&str; 8] = [
    "hunter2", "argon2id", "0123456", "$2y$", "Z1Z1", "AbCd", "000102", "c4WoMPo",
];

/// All that can be seen of a configuration: page or report, and what debugging prints.
fn shown(toml: &str) -> String {
    let environment = [pair(("CORELANE_ACCESS__JWT_SECRET", "hunter2"))];
    let plain = Source {
        files: &file,
        ..Source::of("config.toml", toml)
    };
    let varied = Source {
        environment: &environment,
        ..plain
    };
    let mut all = String::new();
    for source in [plain, varied] {
        let page = config::show(source, true).unwrap_or_else(|problems| problems.to_string());
        all += &page;
        if let Ok((file, plan)) = config::load(source) {
            all += &format!("{file:?} {plan:?}");
        }
    }
    all
}

#[test]
fn no_page_and_no_report_shows_a_secret() {
    let users = format!("basic_users = [\"ann:{ARGON2}\", \"ben:{BCRYPT}\"]");
    let same = format!("basic_users = [\"ann:{ARGON2}\", \"ann:{ARGON2}\"]");
    let top = "backends = [\"http://a\"]\n";
    let good = [
        "jwt_secret = \"0123456789abcdef0123456789abcdef\"",
        "api_keys = [\"ci:0123456789abcdef\"]",
        &users,
    ];
    for line in good {
        let page = shown(&format!("{top}[access]\n{line}\n"));
        assert!(page.contains("\"***\""), "{page}");
    }
    let bad = [
        "jwt_secret = \"hunter2\"",
        "jwt_secret = \"hunter2",
        "jwt_secret = hunter2",
        "jwt_secret = \"hunter2\\q\"",
        "jwt_secret = [\"hunter2\"]",
        "jwt_secrt = \"hunter2\"",
        "jwt-secret = \"hunter2\"",
        "api_key = \"ci:0123456789abcdef\"",
        "api_keys = [\"hunter2\"]",
        "api_keys = [\"ci:hunter2\"]",
        "api_keys = [\"ci:0123456789abcdef\", \"ci:0123456789abcdef\"]",
        "api_keys = [\n\"ci:0123456789abcdef\",\n\"ci 0123456789abcdef\",\n]",
        "api_keys = [\n\"ci:0123456789abcdef\",\n\"ci:0123456789abcdef\n]",
        "api_keys = [\"a:sha256:0001020304\"]",
        "basic_users = [\"ann:hunter2\"]",
        "basic_users = [\"ann:$2y$05$hunter2\"]",
        "basic_users = [\"file:/wrong-users\"]",
        &same,
        "jwt_key = \"\"\"\n-----BEGIN PRIVATE KEY-----\nZ1Z1AbCd==\nAbCd=\n\"\"\"",
        "jwt_jwks = '{\"keys\":[{\"kty\":\"oct\",\"k\":\"hunter2\"}]}'",
        "jwt_jwks = '{\"keys\": hunter2'",
        "password = \"hunter2\"",
        "users.ann = \"hunter2\"",
        "oidc = { client = \"hunter2\" }",
        "level = \"hunter2\"",
    ];
    for line in bad {
        for toml in [
            format!("{top}[access]\n{line}\n[log]\nlevel = 5\n"),
            format!("{top}[acess]\n{line}\n"),
            format!("{top}access = {{ realm = 5, {line} }}\nlog = 5\n"),
        ] {
            let page = shown(&toml);
            assert!(page.contains(" in config.toml"), "{toml}\n{page}");
        }
    }
    for line in good.into_iter().chain(bad) {
        for toml in [
            format!("{top}[access]\n{line}\n[log]\nlevel = 5\n"),
            format!("{top}[acess]\n{line}\n"),
            format!("{top}access = {{ relm = 5, {line} }}\nlog = 5\n"),
            format!("{top}[access]\n{line}\n"),
        ] {
            let page = shown(&toml);
            for secret in SECRETS {
                assert!(!page.contains(secret), "{secret}\n{toml}\n{page}");
            }
        }
    }
}

#[test]
fn no_page_and_no_report_shows_the_value_of_a_secret_field() {
    let fields = [
        "Authorization: Bearer hunter2",
        "COOKIE:a=hunter2",
        "Set-Cookie: a=hunter2",
        "X-Api-Key: hunter2",
        "X_Api_Key: hunter2",
        "X-Auth-Token: hunter2",
        "Client-Secret: {user}hunter2",
        "X-Password: hunter2\\\"hunter2",
    ];
    let keys = ["request_set", "request_add", "response_set", "response_add"];
    for (field, key) in fields.into_iter().zip(keys.into_iter().cycle()) {
        let name = &field[..field.find(':').unwrap()];
        let edits =
            |list: &str| format!("backends = [\"http://a\"]\n[headers]\n{key} = [{list}]\n");
        let toml = edits(&format!("\"{field}\", \"X-Plain: seen\""));
        let page = config::show(Source::of("config.toml", &toml), true).unwrap();
        assert!(
            page.contains(&format!("\"{name}: ***\", \"X-Plain: seen\"")),
            "{page}"
        );
        assert!(!page.contains("hunter2"), "{page}");
        let (_, value) = field.split_once(':').unwrap();
        for list in [
            format!("\"{field}\", \"{field}\""),
            format!("\"{field}\", 5"),
            format!("\" {field}\""),
            format!("\"{name} hunter2\""),
            format!("\"{name} hunter2: 1\""),
            format!("\"{name}: {{hunter2}}\""),
            format!("\"{name}: hunter2 {{\""),
            format!("\"{name}:{value}"),
            format!("'{name}: hunter2', \"Host: a\""),
        ] {
            let toml = edits(&list);
            let report = config::show(Source::of("config.toml", &toml), true);
            let report = report.unwrap_err().to_string();
            assert!(!report.contains("hunter2"), "{toml}\n{report}");
        }
    }
    let toml = "[[clusters]]\nname = \"a\"\nbackends = \"http://a\"\n[clusters.health_check]\ntype = \"http\"\n\
                headers = [\"Authorization: hunter2\"]\n[[routes]]\ncluster = \"a\"\nheaders = [\"X-Key: hunter2\"]\n";
    let page = config::show(Source::of("config.toml", toml), false).unwrap();
    assert!(
        page.contains("\"Authorization: ***\"") && page.contains("\"x-key: ***\""),
        "{page}"
    );
    assert!(!page.contains("hunter2"), "{page}");
}
