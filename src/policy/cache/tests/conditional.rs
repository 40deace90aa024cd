use super::super::conditional::{
    Validators, is_not_modified, needs_backend, range_holds, write_question,
};
use super::{with_request, with_response};

/// Sun, 06 Nov 1994 08:49:37 GMT
const THEN_S: u64 = 784_111_777;
const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

const STRONG: Validators<'static> = Validators {
    etag: Some(b"\"abc\""),
    last_modified_s: Some(THEN_S),
    date_s: Some(THEN_S + 1),
};
const WEAK: Validators<'static> = Validators {
    etag: Some(b"W/\"abc\""),
    last_modified_s: None,
    date_s: None,
};
const COMMA: Validators<'static> = Validators {
    etag: Some(b"\"a,b\""),
    ..WEAK
};
const DATED: Validators<'static> = Validators {
    etag: None,
    last_modified_s: None,
    date_s: Some(THEN_S),
};
const NONE: Validators<'static> = Validators {
    date_s: None,
    ..DATED
};

const NONE_OF: &str = "If-None-Match";
const SINCE: &str = "If-Modified-Since";

type Condition = (
    &'static str,
    &'static [(&'static str, &'static str)],
    Validators<'static>,
    bool,
);

const CONDITIONS: &[Condition] = &[
    ("no condition", &[], STRONG, false),
    ("9110 13.1.2", &[(NONE_OF, "\"abc\"")], STRONG, true),
    (
        "9110 13.1.2: another",
        &[(NONE_OF, "\"abd\"")],
        STRONG,
        false,
    ),
    ("9110 8.8.3.2: case", &[(NONE_OF, "\"ABC\"")], STRONG, false),
    (
        "9110 8.8.3.2: weak",
        &[(NONE_OF, "W/\"abc\"")],
        STRONG,
        true,
    ),
    ("9110 8.8.3.2: weak", &[(NONE_OF, "\"abc\"")], WEAK, true),
    ("9110 8.8.3.2: weak", &[(NONE_OF, "W/\"abc\"")], WEAK, true),
    (
        "9110 13.1.2: first",
        &[(NONE_OF, "\"abc\", \"1\", \"2\"")],
        STRONG,
        true,
    ),
    (
        "9110 13.1.2: middle",
        &[(NONE_OF, "\"1\",\"abc\"\t, \"2\"")],
        STRONG,
        true,
    ),
    (
        "9110 13.1.2: last",
        &[(NONE_OF, "\"1\", W/\"2\", \"abc\"")],
        STRONG,
        true,
    ),
    (
        "9110 5.6.1: empty members",
        &[(NONE_OF, ", ,\"abc\",,")],
        STRONG,
        true,
    ),
    (
        "9110 5.3: lines",
        &[(NONE_OF, "\"1\""), (NONE_OF, "\"abc\"")],
        STRONG,
        true,
    ),
    (
        "9110 8.8.3: commas",
        &[(NONE_OF, "\"a\", \"a,b\"")],
        COMMA,
        true,
    ),
    (
        "9110 8.8.3: commas",
        &[(NONE_OF, "\"a, \"b\"")],
        COMMA,
        false,
    ),
    ("9110 13.1.2: any", &[(NONE_OF, "*")], STRONG, true),
    ("9110 13.1.2: any", &[(NONE_OF, " * ")], NONE, true),
    (
        "9110 13.1.2: nothing to match",
        &[(NONE_OF, "\"abc\"")],
        NONE,
        false,
    ),
    ("unreadable", &[(NONE_OF, "abc")], STRONG, false),
    ("unreadable", &[(NONE_OF, "w/\"abc\"")], STRONG, false),
    ("unreadable", &[(NONE_OF, "W\"abc\"")], STRONG, false),
    ("unreadable", &[(NONE_OF, "\"abc")], STRONG, false),
    ("unreadable", &[(NONE_OF, "\"abc\"d")], STRONG, false),
    ("unreadable", &[(NONE_OF, "x, \"abc\"")], STRONG, false),
    ("unreadable", &[(NONE_OF, "")], STRONG, false),
    ("9110 13.1.3", &[(SINCE, THEN)], STRONG, true),
    ("9110 13.1.3: later", &[(SINCE, AFTER)], STRONG, true),
    ("9110 13.1.3: earlier", &[(SINCE, BEFORE)], STRONG, false),
    (
        "9110 5.6.7",
        &[(SINCE, "Sunday, 06-Nov-94 08:49:37 GMT")],
        STRONG,
        true,
    ),
    ("4.3.2: Date", &[(SINCE, THEN)], DATED, true),
    ("4.3.2: Date", &[(SINCE, BEFORE)], DATED, false),
    ("no date", &[(SINCE, THEN)], NONE, false),
    (
        "9110 13.1.3: unreadable",
        &[(SINCE, "yesterday")],
        STRONG,
        false,
    ),
    (
        "9110 13.1.3: several",
        &[(SINCE, THEN), (SINCE, THEN)],
        STRONG,
        false,
    ),
    (
        "9110 13.1.3: order",
        &[(NONE_OF, "\"1\""), (SINCE, THEN)],
        STRONG,
        false,
    ),
    (
        "9110 13.1.3: order",
        &[(SINCE, BEFORE), (NONE_OF, "\"abc\"")],
        STRONG,
        true,
    ),
    (
        "9110 13.1.3: order",
        &[(SINCE, THEN), (NONE_OF, "")],
        STRONG,
        false,
    ),
];

#[test]
fn what_a_304_answers() {
    for (section, fields, stored, expected) in CONDITIONS {
        let lines = fields
            .iter()
            .map(|(name, value)| format!("{name}: {value}"));
        let lines: Vec<_> = lines.collect();
        let found = with_request("/", &lines, |request| is_not_modified(request, stored));
        assert_eq!(found, *expected, "{section}: {fields:?}");
    }
}

#[test]
fn what_a_range_hangs_on() {
    let same_second = Validators {
        date_s: Some(THEN_S),
        ..STRONG
    };
    let undated = Validators {
        date_s: None,
        ..STRONG
    };
    let cases: &[(&str, &[&str], Validators<'_>, bool)] = &[
        ("no condition", &[], NONE, true),
        ("9110 13.1.5", &["\"abc\""], STRONG, true),
        ("9110 13.1.5: another", &["\"abd\""], STRONG, false),
        ("9110 13.1.5: none", &["\"abc\""], NONE, false),
        ("9110 13.1.5: weak", &["W/\"abc\""], STRONG, false),
        ("9110 13.1.5: weak", &["\"abc\""], WEAK, false),
        ("9110 13.1.5: weak", &["W/\"abc\""], WEAK, false),
        ("9110 13.1.5: date", &[THEN], STRONG, true),
        ("9110 13.1.5: later", &[AFTER], STRONG, false),
        ("9110 13.1.5: earlier", &[BEFORE], STRONG, false),
        ("9110 8.8.2.2: the same second", &[THEN], same_second, false),
        ("9110 8.8.2.2: nobody knows", &[THEN], undated, false),
        ("unreadable", &["abc"], STRONG, false),
        ("unreadable", &[""], STRONG, false),
        ("unreadable", &["*"], STRONG, false),
        ("unreadable", &["\"abc\", \"abc\""], STRONG, false),
        ("several", &["\"abc\"", "\"abc\""], STRONG, false),
    ];
    for (section, values, stored, expected) in cases {
        let fields: Vec<_> = values
            .iter()
            .map(|value| format!("If-Range: {value}"))
            .collect();
        let found = with_request("/", &fields, |request| range_holds(request, stored));
        assert_eq!(found, *expected, "{section}: {values:?}");
    }
}

#[test]
fn what_only_a_backend_decides() {
    for (section, field, expected) in [
        ("9110 13.1.1", "If-Match: \"abc\"", true),
        ("9110 13.1.4", "if-unmodified-since: x", true),
        ("9110 13.1.2", "If-None-Match: *", false),
        ("9110 13.1.3", "If-Modified-Since: x", false),
    ] {
        assert_eq!(
            with_request("/", &[field], needs_backend),
            expected,
            "{section}"
        );
    }
}

#[test]
fn what_a_backend_is_asked_by() {
    let modified = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT";
    let since = "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    let with_tag = format!("If-None-Match: \"abc\"\r\n{since}");
    let cases: &[(&str, &[&str], &str)] = &[
        ("4.3.1", &["ETag: \"abc\""], "If-None-Match: \"abc\"\r\n"),
        (
            "4.3.1",
            &["ETag: W/\"a,b \u{e9}\""],
            "If-None-Match: W/\"a,b \u{e9}\"\r\n",
        ),
        ("4.3.1", &[modified], since),
        ("4.3.1: both", &[modified, "ETag: \"abc\""], &with_tag),
        (
            "9110 5.6.7: one form",
            &["Last-Modified: Sun Nov  6 08:49:37 1994"],
            since,
        ),
        (
            "Date alone is none",
            &["Date: Sun, 06 Nov 1994 08:49:37 GMT"],
            "",
        ),
        ("unreadable", &["ETag: abc", "Last-Modified: then"], ""),
        ("unreadable", &["ETag: \"abc\"d"], ""),
        ("unreadable", &["ETag: \"a\", \"b\""], ""),
        (
            "several",
            &["ETag: \"a\"", "ETag: \"a\"", modified, modified],
            "",
        ),
        (
            "3.1: not stored",
            &["Connection: etag", "ETag: \"abc\""],
            "",
        ),
    ];
    for (section, fields, expected) in cases {
        let mut found = Vec::new();
        with_response(200, fields, |response| {
            write_question(&Validators::of(response), &mut found);
        });
        assert_eq!(
            String::from_utf8_lossy(&found),
            *expected,
            "{section}: {fields:?}"
        );
    }
}
