use proptest::prelude::*;
use proptest::sample::select;

use super::super::conditional::{
    Validators, is_not_modified, needs_backend, range_holds, write_question,
};
use super::super::control::{Asked, asked, directives};
use super::super::range::{self, Ranged};
use super::super::store::{Came, admit};
use super::super::{KeyRule, QueryRule, Rules, Standing, Terms, Unstorable, key, update, vary};
use super::{with_request, with_response};

const CAME: Came = Came {
    at: 0,
    unix_s: 2_000_000_000,
    delay_ns: 0,
};

const MARKS: &[&str] = &[
    ",", ", ", ";", "=", "\"", "\\", "*", "-", "W/", "(", ")", "?1", ":", ".",
];
const WORDS: &[&str] = &[
    "max-age",
    "s-maxage",
    "no-store",
    "no-cache",
    "public",
    "private",
    "min-fresh",
    "max-stale",
    "stale-if-error",
    "bytes=",
    "gzip",
    "identity",
    "q=0",
    "q=0.5",
    "\"abc\"",
    "Sun, 06 Nov 1994 08:49:37 GMT",
    "Sunday, 06-Nov-94 08:49:37 GMT",
    "Sun Nov  6 08:49:37 1994",
];

/// Values with the bytes that mean something in them, and any others that a head may hold.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let bytes = |text: &str| text.as_bytes().to_vec();
    let piece = prop_oneof![
        4 => select(MARKS).prop_map(bytes),
        4 => select(WORDS).prop_map(bytes),
        2 => any::<u64>().prop_map(|number| number.to_string().into_bytes()),
        1 => prop::collection::vec(prop_oneof![Just(b'\t'), b' '..=b'~', 0x80..=0xff_u8], 0..8),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

fn field(names: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    (select(names), value()).prop_map(|(name, value)| {
        let mut line = format!("{name}: ").into_bytes();
        line.extend_from_slice(&value);
        line
    })
}

const OF_REQUESTS: &[&str] = &[
    "Cache-Control",
    "Pragma",
    "Range",
    "If-None-Match",
    "If-Modified-Since",
    "If-Range",
    "Accept-Encoding",
    "Accept-Language",
    "Cookie",
    "A",
];
const OF_RESPONSES: &[&str] = &[
    "Cache-Control",
    "CDN-Cache-Control",
    "Expires",
    "Date",
    "Age",
    "ETag",
    "Last-Modified",
    "Vary",
    "Cache-Tag",
    "Set-Cookie",
];

/// Members of a list, with all their quotes closed.
fn members() -> impl Strategy<Value = Vec<String>> {
    let name = select(
        &[
            "max-age",
            "s-maxage",
            "no-store",
            "no-cache",
            "private",
            "public",
            "min-fresh",
            "max-stale",
            "must-revalidate",
            "stale-if-error",
            "foo",
        ][..],
    );
    let argument = prop_oneof![
        Just(String::new()),
        (0..9_u32).prop_map(|number| format!("={number}")),
        (0..9_u32).prop_map(|number| format!("=\"{number}\"")),
        select(
            &[
                "=",
                "=x",
                "=-1",
                "=\"a, no-store\"",
                "=\"\\\", public\"",
                " =1"
            ][..]
        )
        .prop_map(str::to_owned),
    ];
    let member = (name, argument).prop_map(|(name, argument)| format!("{name}{argument}"));
    prop::collection::vec(member, 1..6)
}

/// The members in lines: a new one begins where `splits` says so.
fn lines(members: &[String], splits: &[bool], space: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for (member, splits) in members.iter().zip(splits) {
        match lines.last_mut() {
            Some(line) if !splits => {
                line.push_str(space);
                line.push(',');
                line.push_str(space);
                line.push_str(member);
            }
            Some(_) | None => lines.push(format!("Cache-Control: {member}")),
        }
    }
    lines
}

/// Staler is greater.
fn rank(standing: Standing) -> u8 {
    match standing {
        Standing::Fresh => 0,
        Standing::Revalidating => 1,
        Standing::Accepted => 2,
        Standing::Stale => 3,
    }
}

/// How stale it is, and whether it is no help after an error, at the end of some seconds, for those who ask for nothing
/// and for those who take anything.
fn staleness(terms: Result<Terms, Unstorable>) -> Vec<(u8, bool)> {
    let none = Asked::default();
    let any = Asked {
        max_stale_s: u32::MAX,
        ..none
    };
    let moments = (0..30).flat_map(|second| [(second, none), (second, any)]);
    let judged = moments.map(|(second, asked)| {
        let now = second * 1_000_000_000;
        terms.map_or((3, true), |terms| {
            (
                rank(terms.standing(&asked, now)),
                !terms.stands_in(&asked, now),
            )
        })
    });
    judged.collect()
}

proptest! {
    #[test]
    fn no_request_is_too_strange(
        fields in prop::collection::vec(field(OF_REQUESTS), 0..6),
        query in "[!-\"$-~]{0,20}", length: u64,
    ) {
        let stored = Validators {
            etag: Some(b"\"abc\""),
            last_modified_s: Some(784_111_777),
            date_s: Some(784_111_778),
        };
        let rule = KeyRule {
            query: QueryRule::Except(["a*".into(), "b".into()].into()),
            sorts_query: true,
            fields: ["a".into()].into(),
            cookies: ["b".into()].into(),
            ..KeyRule::default()
        };
        with_request(&format!("/?{query}"), &fields, |request| {
            asked(request);
            is_not_modified(request, &stored);
            range_holds(request, &stored);
            needs_backend(request);
            let mut out = Vec::new();
            vary::write("a,accept-encoding,accept-language,cookie", request, &mut out);
            key::write(&rule, request, false, &mut out);
            range::is_partial(request);
            if let Ranged::Part { from, to } = range::of(request, length) {
                prop_assert!(from < to && to <= length);
            }
            Ok(())
        })?;
    }

    #[test]
    fn no_response_is_too_strange(
        status in select(&[200, 206, 302, 304, 404, 599][..]), authorized: bool, heuristics: bool,
        fields in prop::collection::vec(field(OF_RESPONSES), 0..6), tag in "[a-z,\"]{0,2}",
    ) {
        let rules = Rules { heuristics, set_cookie: true, ..Rules::default() };
        let (stored, head) = with_response(status, &fields, |response| {
            let mut out = Vec::new();
            write_question(&Validators::of(response), &mut out);
            update::has_tag(response.head, &tag);
            let _ = vary::names(response);
            let mut head = Vec::new();
            update::write(response, response, &mut head);
            (admit(&rules, authorized, response, CAME), head)
        });
        if let Ok(terms) = stored {
            let most = u32::try_from(i32::MAX).unwrap();
            prop_assert!(terms.lifetime_s <= most && terms.age_s <= most);
        }
        // What is updated by itself is a head, and stays as it is.
        let lines = head.strip_suffix(b"\r\n\r\n").unwrap();
        let lines: Vec<_> = lines.split(|byte| *byte == b'\n').skip(1).map(<[u8]>::trim_ascii_end).collect();
        let again = with_response(status, &lines, |response| admit(&rules, authorized, response, CAME));
        prop_assert_eq!(again, stored);
    }

    #[test]
    fn a_list_may_be_split_over_lines(
        members in members(), splits: [bool; 6], spaces in "[ \t]{0,2}",
    ) {
        let one = lines(&members, &[false; 6], "");
        let other = lines(&members, &splits, &spaces);
        let both = [&one, &other].map(|lines| {
            let said = with_response(200, lines, |response| directives(response, true));
            (said, with_request("/", lines, asked))
        });
        prop_assert_eq!(both[0], both[1], "{:?} {:?}", one, other);
        let values = [&one, &other].map(|lines| {
            let mut out = Vec::new();
            with_request("/", lines, |request| vary::write("cache-control", request, &mut out));
            out
        });
        prop_assert_eq!(&values[0], &values[1]);
    }

    #[test]
    fn the_order_of_directives_does_not_count(members in members(), seed: prop::sample::Index) {
        let mut other = members.clone();
        other.rotate_left(seed.index(members.len()));
        let both = [&members, &other].map(|members| {
            let lines = lines(members, &[false; 6], " ");
            with_response(200, &lines, |response| directives(response, true))
        });
        prop_assert_eq!(both[0], both[1]);
    }

    #[test]
    fn what_cannot_be_read_makes_nothing_fresher(
        directive in select(&["max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"][..]),
        argument in prop_oneof![
            select(&["", "=", "=-5", "=+5", "=5.0", "=x", "= 5", " =5", "='5'", "=\"5", "=5;", "=\"5\"5"][..])
                .prop_map(str::to_owned),
            "=[a-z]{1,3}[0-9]{0,3}",
        ],
        others in members(), default_ttl_s in prop::option::of(0..9_u32), authorized: bool,
    ) {
        let rules = Rules { default_ttl_s, stale_while_revalidate_s: 3, stale_if_error_s: 5, ..Rules::default() };
        let judge = |members: &[String]| {
            let mut fields = lines(members, &[true; 7], "");
            fields.push("ETag: \"a\"".to_owned());
            with_response(200, &fields, |response| admit(&rules, authorized, response, CAME))
        };
        let without = judge(&others);
        let mut members = others;
        members.push(format!("{directive}{argument}"));
        let with = judge(&members);
        let both = staleness(with).into_iter().zip(staleness(without));
        for (with, without) in both {
            prop_assert!(with.0 >= without.0 && with.1 >= without.1, "{:?}", members);
        }
    }

    #[test]
    fn dates_that_cannot_be_read_make_nothing_fresher(
        name in select(&["Expires", "Date", "Age", "Last-Modified", "ETag"][..]), value in "[A-Za-z,:. -]{0,8}",
        others in members(), default_ttl_s in prop::option::of(0..9_u32), heuristics: bool,
    ) {
        let rules = Rules {
            default_ttl_s, heuristics,
            stale_while_revalidate_s: 3, stale_if_error_s: 5,
            ..Rules::default()
        };
        let judge = |fields: &[String]| {
            with_response(200, fields, |response| admit(&rules, false, response, CAME))
        };
        let mut fields = lines(&others, &[true; 6], "");
        let without = judge(&fields);
        fields.push(format!("{name}: {value}"));
        let with = judge(&fields);
        let both = staleness(with).into_iter().zip(staleness(without));
        for (with, without) in both {
            prop_assert!(with.0 >= without.0 && with.1 >= without.1, "{:?}", fields);
        }
    }

    #[test]
    fn what_requests_cannot_say_makes_nothing_fresher(
        directive in select(&["max-age", "min-fresh", "max-stale", "stale-if-error"][..]),
        argument in select(&["=", "=-5", "=5.0", "=x", "= 5", " =5", "=\"5", "=5;"][..]),
        others in members(), lifetime_s in 0..20_u32, age_s in 0..20_u32,
    ) {
        let terms = Terms {
            at: 0, age_s, lifetime_s,
            stale_while_revalidate_s: 5, stale_if_error_s: 5,
            must_revalidate: false, no_cache: false,
        };
        let judge = |members: &[String]| {
            let asked = with_request("/", &lines(members, &[true; 7], ""), asked);
            (terms.standing(&asked, 0), terms.stands_in(&asked, 0))
        };
        let without = judge(&others);
        let mut members = others;
        members.push(format!("{directive}{argument}"));
        let with = judge(&members);
        prop_assert!(with.0 == without.0 || with.0 == Standing::Stale, "{:?} {:?}", with, without);
        prop_assert!(without.1 || !with.1);
    }

    #[test]
    fn vary_tells_apart_what_differs(
        one in "[a-c, ]{0,6}", other in "[a-c, ]{0,6}", mine in "[a-c]{0,3}", yours in "[a-c]{0,3}",
    ) {
        let write = |first: &str, second: &str| {
            let fields = [format!("A: {first}"), format!("B: {second}")];
            let mut out = Vec::new();
            with_request("/", &fields, |request| vary::write("a,b", request, &mut out));
            out
        };
        let members = |text: &str| {
            let members = text.trim().split(',').map(str::trim);
            members.map(str::to_owned).collect::<Vec<_>>()
        };
        let same = members(&one) == members(&other) && mine == yours;
        prop_assert_eq!(write(&one, &mine) == write(&other, &yours), same);
    }

    #[test]
    fn keys_tell_apart_what_counts(
        one in "[a-b&=]{0,5}", other in "[a-b&=]{0,5}", mine in "[ -~]{0,4}", yours in "[ -~]{0,4}",
    ) {
        let rule = KeyRule { fields: ["a".into(), "b".into()].into(), ..KeyRule::default() };
        let write = |query: &str, value: &str| {
            let fields = [format!("A: {value}"), format!("B: {value} b=1:x")];
            let mut out = Vec::new();
            with_request(&format!("/?{query}"), &fields, |request| {
                key::write(&rule, request, false, &mut out);
            });
            out
        };
        // B tells white space at the end.
        let same = one == other && mine.trim_start() == yours.trim_start();
        prop_assert_eq!(write(&one, &mine) == write(&other, &yours), same);
    }
}
