//! Filling in the templates of `contrib/`, which are the one source of what a service is, and the little XML that
//! plists and tasks need. It knows no system.

/// The template with a value at each of its places. Every place has to be there, or the template was changed without
/// this program.
pub fn fill(template: &str, places: &[(&str, String)]) -> String {
    if let Some((place, _)) = places.iter().find(|(place, _)| !template.contains(place)) {
        panic!("the template has no {place:?}");
    }
    let (mut filled, mut rest) = (String::new(), template);
    // From one place to the next, so that what a value holds is never taken for a place.
    let next = |rest: &str| {
        places
            .iter()
            .filter_map(|place| Some((rest.find(place.0)?, place)))
            .min_by_key(|at| at.0)
    };
    while let Some((at, (place, value))) = next(rest) {
        filled += &rest[..at];
        filled += value;
        rest = &rest[at + place.len()..];
    }
    filled + rest
}

/// What lies between the two, the first time that they occur.
pub fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    rest.split_once(end).map(|(found, _)| found)
}

/// Text for the inside of an element.
pub fn xml(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// The texts of all elements of that name, one after the other. Elements do not hold their like in what is read here.
pub fn elements(xml: &str, name: &str) -> Vec<String> {
    let (start, end) = (format!("<{name}>"), format!("</{name}>"));
    let pieces = xml.split(&start).skip(1);
    pieces
        .filter_map(|piece| piece.split_once(&end))
        .map(|(text, _)| plain(text))
        .collect()
}

/// XML without its comments, which may hold what looks like elements.
pub fn without_comments(xml: &str) -> String {
    let mut pieces = xml.split("<!--");
    let first = pieces.next().unwrap_or_default().to_owned();
    first
        + &pieces
            .filter_map(|piece| piece.split_once("-->"))
            .map(|(_, rest)| rest)
            .collect::<String>()
}

fn plain(text: &str) -> String {
    let plain = text
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'");
    plain.replace("&amp;", "&")
}
