//! Who may ask: users, keys and what tokens are verified with.
//!
//! Decides: what of `[access]` can be used, and which verifier counts where several levels have one. May not know: how
//! requests are checked. Invariant: no message and no page has a password, a hash, a key or a secret; at most a name.

use std::collections::HashSet;

use super::chain::Chain;
use super::file::{File, Found, Settings};
use super::files::{self, Files};
use super::keys::Key;
use super::kinds::{API_KEY_BYTES_MIN, API_KEYS_MAX, JWT_ALGORITHMS, Kind, USERS_MAX, Verifier};
use super::levels::{Levels, Once};
use super::list::texts;
use super::read::{Node, join};
use super::report::{Fault, Notes};
use super::secrets::{HIDDEN, Secret};
use super::value::{Value, array, string, text};
use crate::policy::filter::api_key::{self, ApiKey};
use crate::policy::filter::basic::{Basic, User};
use crate::policy::filter::jwt::{Algorithm, Jwt, Keys};

/// What may stand in files, and what stood there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secrets {
    written: Vec<Secret>,
    texts: Vec<Secret>,
}

pub(super) const VERIFIERS: [(Key, Verifier); 3] = [
    (Key::JwtSecret, Verifier::Secret),
    (Key::JwtKey, Verifier::Pem),
    (Key::JwtJwks, Verifier::Jwks),
];
/// The keys that tell who somebody is.
pub(super) const IDENTITIES: [Key; 5] = [
    Key::BasicUsers,
    Key::ApiKeys,
    Key::JwtSecret,
    Key::JwtKey,
    Key::JwtJwks,
];
const SECOND: u64 = 1_000_000_000;

pub(super) fn users(
    node: &Node,
    kind: &Kind,
    path: &str,
    files: Files<'_>,
    notes: &mut Notes,
) -> Option<Secrets> {
    let parse = |text: &str| User::parse(text).map_err(fault);
    let (secrets, users) = secrets(node, kind, path, files, parse, notes)?;
    counted(users.len(), USERS_MAX, node, path, notes)?;
    let whole = match users.is_empty() {
        true => Ok(()),
        false => Basic::new("", users).map(drop),
    };
    noted(whole.map_err(fault), node, path, notes)?;
    Some(secrets)
}

pub(super) fn api_keys(
    node: &Node,
    kind: &Kind,
    path: &str,
    files: Files<'_>,
    notes: &mut Notes,
) -> Option<Secrets> {
    let (secrets, keys) = secrets(node, kind, path, files, api_key, notes)?;
    counted(keys.len(), API_KEYS_MAX, node, path, notes)?;
    let whole = match keys.is_empty() {
        true => Ok(()),
        false => ApiKey::new("", "", keys).map(drop),
    };
    noted(whole.map_err(fault), node, path, notes)?;
    Some(secrets)
}

fn api_key(text: &str) -> Result<api_key::Key, Fault> {
    let key = api_key::Key::parse(text).map_err(fault)?;
    let plain = text.split_once(':').map_or("", |(_, key)| key);
    if !plain.starts_with("sha256:") && plain.len() < API_KEY_BYTES_MIN {
        let fault = Fault::new(format!(
            "the key of \"{}\" is shorter than {API_KEY_BYTES_MIN} characters",
            key.name
        ));
        return Err(fault.hint("`openssl rand -hex 16` makes one"));
    }
    Ok(key)
}

/// The texts of a list and of the files that it names. A file has one on each line, and remarks behind `#`.
fn secrets<T>(
    node: &Node,
    kind: &Kind,
    path: &str,
    files: Files<'_>,
    parse: impl Fn(&str) -> Result<T, Fault>,
    notes: &mut Notes,
) -> Option<(Secrets, Vec<T>)> {
    let items = texts(node, &kind.bounds(), path, notes)?;
    let mut secrets = Secrets {
        written: items.iter().map(|item| Secret(item.text.into())).collect(),
        texts: Vec::new(),
    };
    let mut parsed = Vec::new();
    let mut good = true;
    for item in &items {
        let mut read = |text: &str, line: Option<usize>| match parse(text) {
            Ok(one) => {
                parsed.push(one);
                secrets.texts.push(Secret(text.into()));
            }
            Err(mut fault) => {
                if let Some(line) = line {
                    fault.message = format!("line {line}: {}", fault.message);
                }
                notes.add(&item.node.at, &item.path, fault);
                good = false;
            }
        };
        if files::path(item.text).is_none() {
            read(item.text, None);
            continue;
        }
        match files::text(item.text, files) {
            Ok(text) => {
                let lines = text.lines().map(str::trim).zip(1..);
                let lines = lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
                lines.for_each(|(line, number)| read(line, Some(number)));
            }
            Err(fault) => {
                notes.add(&item.node.at, &item.path, fault);
                good = false;
            }
        }
    }
    good.then_some((secrets, parsed))
}

fn counted(count: usize, max: usize, node: &Node, path: &str, notes: &mut Notes) -> Option<()> {
    let few = match count {
        count if count > max => Err(Fault::new(format!(
            "{count} items, at most {max} are allowed"
        ))),
        _ => Ok(()),
    };
    noted(few, node, path, notes)
}

fn noted(whole: Result<(), Fault>, node: &Node, path: &str, notes: &mut Notes) -> Option<()> {
    whole.map_err(|fault| notes.add(&node.at, path, fault)).ok()
}

/// What filters say of a text, its hint behind a semicolon.
fn fault(problem: String) -> Fault {
    match problem.split_once("; ") {
        Some((message, hint)) => Fault::new(message).hint(hint),
        None => Fault::new(problem),
    }
}

pub(super) fn verifier(
    node: &Node,
    kind: &Kind,
    verifier: Verifier,
    files: Files<'_>,
) -> Result<Value, Fault> {
    let written = text(node, kind)?;
    if written.is_empty() {
        return Ok(Value::Unset);
    }
    let text = files::line(written, files)?;
    keys(verifier, &text).map_err(fault)?;
    Ok(Value::Secrets(Secrets {
        written: vec![Secret(written.into())],
        texts: vec![Secret(text.into())],
    }))
}

fn keys(verifier: Verifier, text: &str) -> Result<Keys, String> {
    match verifier {
        Verifier::Secret => Keys::from_secret(text.as_bytes()),
        Verifier::Pem => Keys::from_pem(text.as_bytes()),
        Verifier::Jwks => Keys::from_jwks(text.as_bytes()),
    }
}

/// A path of a file is no secret, nor is a public key.
pub(super) fn show(key: Key, secrets: &Secrets) -> String {
    let is_list = matches!(key.spec().kind, Kind::Users | Kind::ApiKeys);
    let is_public = matches!(key.spec().kind, Kind::Verifier(Verifier::Pem));
    let each = secrets.written.iter().map(|Secret(written)| {
        let is_shown = is_public || files::path(written).is_some();
        if is_shown { written } else { HIDDEN }.to_owned()
    });
    if is_list {
        array(each)
    } else {
        string(&each.collect::<String>())
    }
}

/// The verifier that counts: that of the nearest level which names one, or says that there is none.
fn nearest<'a>(
    mut levels: impl Iterator<Item = &'a Settings>,
) -> Option<(Verifier, &'a Found<Value>)> {
    let named = |settings: &'a Settings| {
        let all = VERIFIERS.iter();
        all.filter_map(|(key, verifier)| Some((*verifier, settings.get(key)?)))
    };
    let level = levels.find(|settings| named(settings).next().is_some())?;
    named(level).find(|(_, found)| found.value != Value::Unset)
}

fn tokens(found: Option<(Verifier, &Found<Value>)>) -> Option<Keys> {
    let (verifier, found) = found?;
    let Value::Secrets(Secrets { texts, .. }) = &found.value else {
        return None;
    };
    let Secret(text) = texts.first()?;
    Some(keys(verifier, text).expect("what was read was tried"))
}

fn list<'a>(chain: &Chain<'a>, key: Key) -> &'a [Secret] {
    match chain.value(key) {
        Value::Secrets(secrets) => &secrets.texts,
        other => unreachable!("{key:?} is read as secrets, found {other:?}"),
    }
}

pub(super) fn basic(chain: &Chain<'_>) -> Option<Basic> {
    let users = list(chain, Key::BasicUsers).iter();
    let users = users.map(|Secret(text)| User::parse(text).expect("what was read was tried"));
    // An empty list is none.
    Basic::new(&chain.text(Key::Realm)?, users.collect()).ok()
}

pub(super) fn api_key_of(chain: &Chain<'_>) -> Option<ApiKey> {
    let keys = list(chain, Key::ApiKeys).iter();
    let keys = keys.map(|Secret(text)| api_key::Key::parse(text).expect("what was read was tried"));
    let header = chain.text(Key::ApiKeyHeader)?;
    ApiKey::new(&chain.text(Key::Realm)?, &header, keys.collect()).ok()
}

pub(super) fn jwt(chain: &Chain<'_>) -> Option<Jwt> {
    let keys = tokens(nearest(chain.0.iter().copied()))?;
    let keys = match JWT_ALGORITHMS[chain.choice(Key::JwtAlgorithm)] {
        Some(algorithm) => keys.only(algorithm).expect("a check has tried it"),
        None => keys,
    };
    Some(Jwt {
        realm: chain.text(Key::Realm)?,
        keys,
        issuers: chain.words(Key::JwtIssuers).into(),
        audiences: chain.words(Key::JwtAudiences).into(),
        leeway_s: chain.number(Key::JwtLeeway) / SECOND,
        user_claim: chain.text(Key::JwtUserClaim)?,
    })
}

/// Whether a request that passes has a user.
pub(super) fn knows_user(chain: &Chain<'_>) -> bool {
    !list(chain, Key::BasicUsers).is_empty()
        || !list(chain, Key::ApiKeys).is_empty()
        || nearest(chain.0.iter().copied()).is_some()
}

/// In one place stands one verifier.
pub(super) fn check(file: &File, notes: &mut Notes) {
    one_verifier(&file.settings, "", notes);
    for (at, cluster) in file.clusters.iter().enumerate() {
        one_verifier(&cluster.settings, &format!("clusters[{at}]"), notes);
    }
    for (at, route) in file.routes.iter().enumerate() {
        one_verifier(&route.settings, &format!("routes[{at}]"), notes);
    }
}

fn one_verifier(settings: &Settings, prefix: &str, notes: &mut Notes) {
    let mut named = VERIFIERS.iter().filter_map(|(key, _)| {
        let found = settings.get(key)?;
        (found.value != Value::Unset).then_some((key.spec().path, found))
    });
    let Some((first, _)) = named.next() else {
        return;
    };
    for (path, found) in named {
        let fault = Fault::new(format!("{first} is set too")).hint("keep one of them");
        notes.add(&found.at, &join(prefix, path), fault);
    }
}

/// An algorithm that no key is made for lets no token pass. `tried` spares routes what was found for others.
pub(super) fn algorithm(
    levels: &Levels<'_>,
    tried: &mut HashSet<(*const Found<Value>, usize)>,
    once: &mut Once<'_>,
) {
    let verifier = nearest(levels.all.iter().map(|(_, settings)| *settings));
    let (Some((_, found)), Some(place)) = (verifier, levels.find(Key::JwtAlgorithm)) else {
        return;
    };
    let Value::Choice(at) = place.found.value else {
        return;
    };
    let Some(algorithm): Option<Algorithm> = JWT_ALGORITHMS[at] else {
        return;
    };
    if !tried.insert((std::ptr::from_ref(found), at)) {
        return;
    }
    let wrong = tokens(verifier).and_then(|keys| keys.only(algorithm).err());
    if let Some(problem) = wrong {
        once.add(
            &place,
            fault(problem).hint("leave the key out to take what the keys are made for"),
        );
    }
}
