//! The binary: exit codes, and what goes to which stream.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A directory of this test's own, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.0.join(name), text).unwrap();
    }

    fn run(&self, arguments: &str, environment: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
        command
            .current_dir(&self.0)
            .args(arguments.split_whitespace());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CORELANE_")) {
            command.env_remove(name);
        }
        command.envs(environment.iter().copied()).output().unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs the binary where some configurations are. Gives the code, and what came where.
fn run(folder: &Folder, (arguments, environment): Run) -> (Option<i32>, String, String) {
    folder.write("good.toml", "backends = [\"http://127.0.0.1:3001\"]\n");
    folder.write("bad.toml", "bakends = []\n");
    folder.write("latin1.toml", b"# \xe4\n");
    let output = folder.run(arguments, environment);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    let is_plain = !out.contains('\u{1b}') && !err.contains('\u{1b}');
    assert!(is_plain, "{arguments}: colour without a terminal");
    (output.status.code(), out, err)
}

/// Arguments and variables.
type Run = (&'static str, &'static [(&'static str, &'static str)]);

#[test]
fn what_was_asked_for_goes_to_stdout() {
    let folder = Folder::new("config_good_runs");
    let version = concat!("corelane ", env!("CARGO_PKG_VERSION"), " (");
    let fine = "good.toml: fine: 1 backend in 1 cluster, 1 route\n";
    let cases: [(Run, &str); 8] = [
        (("check good.toml", &[]), fine),
        (("-t -c good.toml", &[]), fine),
        (("check", &[("CORELANE_CONFIG", "good.toml")]), fine),
        (
            ("check", &[("CORELANE_BACKENDS", "http://a")]),
            "(no file): fine",
        ),
        (
            ("config show -c good.toml --shards 2", &[]),
            "backends = [\"http://127.0.0.1:3001\"]\n",
        ),
        (("version", &[]), version),
        (("-V", &[]), version),
        (("--help", &[]), "Corelane"),
    ];
    for (asked, begins) in cases {
        let (code, out, err) = run(&folder, asked);
        assert_eq!((code, &*err), (Some(0), ""), "{asked:?}");
        assert!(out.starts_with(begins), "{asked:?}\n{out}");
    }
}

#[test]
fn what_is_wrong_goes_to_stderr_and_has_its_code() {
    let folder = Folder::new("config_bad_runs");
    let cases: [(Run, i32, &str); 9] = [
        (
            ("check bad.toml", &[]),
            78,
            "bad.toml:1:1: bakends: unknown key",
        ),
        (("-c bad.toml", &[]), 78, "did you mean \"backends\"?"),
        (
            ("config show -config bad.toml", &[]),
            78,
            "2 problems in bad.toml",
        ),
        (("check none.toml", &[]), 78, "cannot read none.toml"),
        (("check .", &[]), 78, "cannot read ."),
        (("check latin1.toml", &[]), 78, "latin1.toml:1: not UTF-8"),
        (
            ("check", &[]),
            78,
            "there is no configuration: looked for config.toml and /etc/corelane/config.toml",
        ),
        (
            ("check good.toml", &[("CORELANE_SERVR__PIN", "true")]),
            78,
            "did you mean CORELANE_SERVER__PIN?",
        ),
        (("--shard 2", &[]), 2, "did you mean --shards?"),
    ];
    for (asked, expected, says) in cases {
        let (code, out, err) = run(&folder, asked);
        assert_eq!((code, &*out), (Some(expected), ""), "{asked:?}\n{err}");
        assert!(err.contains(says), "{asked:?}\n{err}");
    }
}
