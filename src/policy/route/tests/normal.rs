//! The normal form.

use proptest::prelude::*;

use super::*;
use crate::policy::route::normal::is_normal;

fn normal(path: &str) -> String {
    with_normal(path.as_bytes(), |path| {
        String::from_utf8(path.to_vec()).unwrap()
    })
}

#[test]
fn normal_forms() {
    let cases = [
        ("/a/b", "/a/b"),
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/b/..", "/a/"),
        ("/a/b/.", "/a/b/"),
        ("/..", "/"),
        ("/../../a", "/a"),
        ("/.a/..b/c.", "/.a/..b/c."),
        ("/%2e%2e/%2E/x", "/x"),
        ("/a/.%2e/b", "/b"),
        ("/%41%zz%4", "/A%zz%4"),
        ("/a%2Fb", "/a/b"),
        ("/%2fa%2f", "/a/"),
        ("/a//b///", "/a/b/"),
        ("//", "/"),
        ("//a", "/a"),
        ("/%2F/%2f", "/"),
        // Slashes are merged before dot segments take what is before them.
        ("/a//../b", "/b"),
        ("/a/b%2f%2f../c", "/a/c"),
        ("/x/..//app/x", "/app/x"),
        ("/app%2f..%2fsecret", "/secret"),
        ("/app%2f%2e%2e%2fsecret", "/secret"),
        ("/a/.%2f.//b", "/a/b"),
        ("/a%2f..", "/"),
        ("/a//..", "/"),
        ("/a/b/..%2f", "/a/"),
        ("/..%2f..%2f", "/"),
        // Not read as slashes.
        ("/a\\..\\b", "/a\\..\\b"),
        ("/a%5c..%5Cb", "/a%5c..%5Cb"),
        ("/a%252fb", "/a%252fb"),
        ("/a;/../b;c", "/b;c"),
        ("/%252e%252e/", "/%252e%252e/"),
        ("/%%32e%%32e/x", "/%%32e%%32e/x"),
        ("/%2%65%2%65/x", "/%2%65%2%65/x"),
        ("/%%%32%65", "/%%%32e"),
        ("/%2%67%61", "/%2ga"),
        ("/%%32f..%%32f", "/%%32f..%%32f"),
        ("/%2%66a", "/%2%66a"),
        ("/%%2f41", "/%/41"),
        ("/%2%2ff", "/%2/f"),
        ("/a%", "/a%"),
        ("/..//a", "/a"),
        ("*", "*"),
        ("", ""),
        ("/", "/"),
    ];
    for (path, expected) in cases {
        assert_eq!(normal(path), expected, "{path}");
        assert!(path == expected || !is_normal(path.as_bytes()), "{path}");
    }
}

proptest! {
    /// What a backend normalises once more stays as it is: it reads the path that we have read.
    #[test]
    fn a_normal_form_is_its_own(path in "/(%|%2|%32|%65|%66|%2E|%2f|%2F|e|f|2|\\.|\\.\\.|/){0,16}") {
        let once = normal(&path);
        prop_assert!(once.len() <= path.len());
        prop_assert_eq!(normal(&once), once.clone());
        prop_assert!(!once.split('/').any(|segment| segment == "." || segment == ".."));
        prop_assert!(!once.contains("//"));
        prop_assert!(once.starts_with('/'));
    }

    #[test]
    fn a_path_and_its_normal_form_have_one_route(
        segments in proptest::collection::vec(
            proptest::sample::select(&["", ".", "..", "%2e", ".%2E", "x", "%78", "y", "%2f", "..%2fx", "%%32e", "%%32f"][..]),
            1..8,
        ),
    ) {
        let table = ["* /", "* /x", "* =/x", "* /x/y", "* /x/", "* =/y", "* //z", "* /y%2fx"];
        let router = Router::build(rules(&table));
        let path = format!("/{}", segments.join("/"));
        let expected = find(&router, "GET", "h", &path);
        prop_assert_eq!(find(&router, "GET", "h", &normal(&path)), expected);
    }
}
