//! The words and flags of `corelane cache`.
//!
//! Decides: which words there are, and what must follow each. May not know: what is stored.
//! Invariant: what is wrong with the words is said before anything is sent.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::admin::client::{Args, What};
use crate::cache::purge::Purge;
use crate::config::report::nearest;

use super::flag::Flag;
use super::{Flags, Usage, usage};

impl Flags {
    pub(super) fn cache(
        &mut self,
        words: &mut impl Iterator<Item = OsString>,
    ) -> Result<Args, Usage> {
        let what = match words.next().map(OsString::into_string) {
            None => What::Cache,
            Some(Ok(word)) if word == "purge" => What::Purge(self.purge(words)?),
            Some(word) => {
                let word = word.unwrap_or_else(|word| word.to_string_lossy().into_owned());
                let usage = usage(format!("cache has no \"{word}\""));
                return Err(match nearest(&word, ["purge"]) {
                    Some(near) => usage.hint(format!("did you mean corelane cache {near}?")),
                    None => usage.hint("there are: corelane cache and corelane cache purge"),
                });
            }
        };
        Ok(Args {
            what,
            cluster: None,
            admin: self.admin()?,
            config: self.take(Flag::Config).map(PathBuf::from),
            json: self.has(Flag::Json),
        })
    }

    /// What is to be purged: it is said in one way.
    fn purge(&mut self, words: &mut impl Iterator<Item = OsString>) -> Result<Purge, Usage> {
        let url = words.next().map(OsString::into_string).transpose();
        let url = url.map_err(|_| usage("what follows purge is not UTF-8"))?;
        let mut found = Vec::new();
        found.extend(url.map(Purge::Url));
        found.extend(self.text(Flag::Prefix)?.map(Purge::Prefix));
        found.extend(self.text(Flag::Tag)?.map(Purge::Tag));
        found.extend(self.has(Flag::All).then_some(Purge::All));
        match (found.pop(), found.is_empty()) {
            (Some(purge), true) => Ok(purge),
            (Some(_), false) => Err(usage(
                "purge wants one of a URL, --prefix, --tag and --all, not several",
            )),
            (None, _) => Err(usage("purge wants a URL, --prefix, --tag or --all")
                .hint("corelane cache purge http://www.example.com/path")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Command, parse};

    fn check(line: &str) -> Result<Args, String> {
        match parse(line.split_whitespace().map(OsString::from)) {
            Ok(Command::Cache(args)) => Ok(args),
            Ok(other) => Err(format!("{other:?}")),
            Err(usage) => Err(usage.to_string()),
        }
    }

    fn args(what: What) -> Args {
        Args {
            what,
            cluster: None,
            admin: None,
            config: None,
            json: false,
        }
    }

    #[test]
    fn words() {
        let all = Args {
            admin: Some("localhost:1".to_owned()),
            config: Some("f".into()),
            json: true,
            ..args(What::Cache)
        };
        let purge = |purge: Purge| args(What::Purge(purge));
        for (line, expected) in [
            ("cache", args(What::Cache)),
            ("cache --json --admin localhost:1 -c f", all),
            (
                "cache purge http://a/b?c",
                purge(Purge::Url("http://a/b?c".to_owned())),
            ),
            (
                "cache purge --prefix http://a/",
                purge(Purge::Prefix("http://a/".to_owned())),
            ),
            (
                "cache purge --tag news",
                purge(Purge::Tag("news".to_owned())),
            ),
            ("cache purge --all", purge(Purge::All)),
        ] {
            assert_eq!(check(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn wrong_words_say_what_was_meant() {
        for (line, message) in [
            ("cahce", "unknown command \"cahce\"\n  did you mean cache?"),
            (
                "cache prge --all",
                "cache has no \"prge\"\n  did you mean corelane cache purge?",
            ),
            (
                "cache http://a/",
                "cache has no \"http://a/\"\n  there are: corelane cache and corelane cache purge",
            ),
            (
                "cache purge",
                "purge wants a URL, --prefix, --tag or --all\n  corelane cache purge http://www.example.com/path",
            ),
            (
                "cache purge http://a/ --all",
                "purge wants one of a URL, --prefix, --tag and --all, not several",
            ),
            (
                "cache purge --tag a --prefix http://a/",
                "purge wants one of",
            ),
            (
                "cache purge http://a/ http://b/",
                "\"http://b/\" is one word too many",
            ),
            ("cache purge --tag", "--tag wants a value"),
            ("cache --all", "--all does not belong to this command"),
            (
                "cache --cluster a",
                "--cluster does not belong to this command",
            ),
            ("backends --tag a", "--tag does not belong to this command"),
        ] {
            let found = check(line).expect_err(line);
            assert!(
                found.starts_with(&format!("corelane: {message}")),
                "{line}: {found}"
            );
        }
    }
}
