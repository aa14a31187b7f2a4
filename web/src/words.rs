//! Languages. Pages are written in English, and what stands between quotes there is the key to every other language: the
//! files of `locales/` map it. What a file lacks stays English; a test names it.

use std::{collections::HashMap, sync::LazyLock};

use http::{HeaderMap, header};

use crate::session::cookie;

type Catalog = HashMap<String, String>;

/// Marks a text for translation where it is only data.
#[must_use]
pub const fn t(text: &'static str) -> &'static str {
    text
}

/// One language of a page.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    /// As `lang` says it, RFC 5646.
    pub code: &'static str,
    catalog: Option<&'static Catalog>,
}

/// Code, the language's own name, and its files, one for each part of the pages. English has none.
pub(crate) const LANGUAGES: &[(&str, &str, &[&str])] = &[
    ("en", "English", &[]),
    (
        "de",
        "Deutsch",
        &[
            include_str!("../locales/de/frame.toml"),
            include_str!("../locales/de/network.toml"),
            include_str!("../locales/de/servers.toml"),
            include_str!("../locales/de/images.toml"),
            include_str!("../locales/de/identity.toml"),
            include_str!("../locales/de/system.toml"),
        ],
    ),
];

static CATALOGS: LazyLock<Vec<Catalog>> = LazyLock::new(|| {
    let read = |text: &&str| toml::from_str::<Catalog>(text).unwrap_or_default();
    LANGUAGES.iter().map(|(_, _, files)| files.iter().flat_map(read).collect()).collect()
});

impl Words {
    /// As the user chose, or as the browser prefers.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let chosen = cookie(headers, "language").and_then(Self::named);
        let preferred = || {
            let accepted = headers.get(header::ACCEPT_LANGUAGE)?.to_str().ok()?;
            accepted.split(',').find_map(|range| Self::named(range.split([';', '-']).next()?.trim()))
        };
        chosen.or_else(preferred).unwrap_or(Self { code: "en", catalog: None })
    }

    pub(crate) fn named(code: &str) -> Option<Self> {
        let index = LANGUAGES.iter().position(|(known, _, _)| *known == code)?;
        Some(Self { code: LANGUAGES.get(index)?.0, catalog: CATALOGS.get(index).filter(|catalog| !catalog.is_empty()) })
    }

    /// `text` in this language.
    #[must_use]
    pub fn t<'a>(&self, text: &'a str) -> &'a str
    where
        'static: 'a,
    {
        self.catalog.and_then(|catalog| catalog.get(text)).map_or(text, String::as_str)
    }

    /// The same with `{}` replaced by each value in turn.
    #[must_use]
    pub fn fill(&self, text: &str, values: &[&dyn std::fmt::Display]) -> String {
        let mut filled = String::new();
        let mut values = values.iter();
        let mut rest = self.t(text);
        while let Some((before, after)) = rest.split_once("{}") {
            filled.push_str(before);
            if let Some(value) = values.next() {
                filled.push_str(&value.to_string());
            }
            rest = after;
        }
        filled.push_str(rest);
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, fs, path::Path};

    /// Texts that are asked for by `t("...")` and `fill("...")` in pages and code.
    fn asked(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                asked(&path, found);
                continue;
            }
            // This file's own calls are examples.
            if path.ends_with("src/words.rs") {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            for call in ["t(\"", "fill(\"", "t('"] {
                let close = call.chars().last().unwrap();
                for (at, _) in text.match_indices(call) {
                    let before = text[..at].chars().last().unwrap_or(' ');
                    if before.is_alphanumeric() || before == '_' {
                        continue;
                    }
                    let rest = &text[at + call.len()..];
                    found.insert(rest[..rest.find(close).unwrap()].to_owned());
                }
            }
        }
    }

    #[test]
    fn every_text_of_every_page_is_there_in_german() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut texts = BTreeSet::new();
        asked(&here.join("templates"), &mut texts);
        asked(&here.join("src"), &mut texts);
        let files = LANGUAGES[1].2.iter();
        let catalog: Catalog = files.flat_map(|text| toml::from_str::<Catalog>(text).unwrap()).collect();
        let missing: Vec<&String> = texts.iter().filter(|text| !catalog.contains_key(*text)).collect();
        assert!(missing.is_empty(), "locales/de/ lacks {missing:#?}");
        let stale: Vec<&String> = catalog.keys().filter(|text| !texts.contains(*text)).collect();
        assert!(stale.is_empty(), "locales/de/ has what no page says: {stale:#?}");
    }

    #[test]
    fn places_in_a_text_are_filled_in_turn() {
        let words = Words { code: "en", catalog: None };
        assert_eq!(words.fill("{} of {}", &[&1, &"2 {}"]), "1 of 2 {}");
    }

    #[test]
    fn the_browser_is_asked_and_the_choice_wins() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_LANGUAGE, "fr-FR,de-AT;q=0.8,en".parse().unwrap());
        assert_eq!(Words::of(&headers).code, "de");
        headers.insert(header::COOKIE, "language=en".parse().unwrap());
        assert_eq!(Words::of(&headers).code, "en");
        headers.insert(header::COOKIE, "language=../x".parse().unwrap());
        assert_eq!(Words::of(&headers).code, "de");
    }
}
