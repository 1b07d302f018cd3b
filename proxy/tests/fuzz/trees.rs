//! Mutations of JSON as a tree: what comes out is JSON again, so that it reaches what lies behind the parser.

use assay_proxy::model::json::Json;

use crate::Random;

/// Changes one value somewhere in `tree`: another value, another key, one more or one less.
pub(crate) fn mutate(tree: &mut Json, others: &[Json], keys: &[&str], random: &mut Random) {
    let mut at = random.below(size(tree));
    let Some(node) = nth(tree, &mut at) else {
        return;
    };
    let odd = match random.below(3) {
        0 => piece(&others[random.below(others.len())], random),
        _ => Json::parse(ODD[random.below(ODD.len())].as_bytes()).unwrap(),
    };
    match node {
        Json::Object(members) => {
            let key = keys[random.below(keys.len())].to_owned();
            let at = random.below(members.len());
            match random.below(5) {
                0 if !members.is_empty() => drop(members.remove(at)),
                1 if !members.is_empty() => members[at].0 = key,
                // Twice the same key.
                2 if !members.is_empty() => members.push((members[at].0.clone(), odd)),
                3 => members.push((key, odd)),
                _ => *node = odd,
            }
        }
        Json::List(items) => {
            let at = random.below(items.len());
            match random.below(4) {
                0 if !items.is_empty() => drop(items.remove(at)),
                1 if !items.is_empty() => items.extend(vec![items[at].clone(); random.below(8)]),
                2 => items.push(odd),
                _ => *node = odd,
            }
        }
        Json::Text(text) if random.below(2) == 0 => {
            *text = text.repeat(random.below(40) + 1);
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) => {
            *node = if random.below(4) == 0 {
                Json::List(vec![node.clone()])
            } else {
                odd
            };
        }
    }
}

/// Some value out of a tree.
fn piece(tree: &Json, random: &mut Random) -> Json {
    let mut copy = tree.clone();
    let mut at = random.below(size(tree));
    nth(&mut copy, &mut at).map_or(Json::Null, |node| node.clone())
}

fn size(tree: &Json) -> usize {
    match tree {
        Json::Object(members) => 1 + members.iter().map(|(_, value)| size(value)).sum::<usize>(),
        Json::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) => 1,
    }
}

/// The value that is reached after `left` others.
fn nth<'a>(tree: &'a mut Json, left: &mut usize) -> Option<&'a mut Json> {
    if *left == 0 {
        return Some(tree);
    }
    *left -= 1;
    match tree {
        Json::Object(members) => members.iter_mut().find_map(|(_, value)| nth(value, left)),
        Json::List(items) => items.iter_mut().find_map(|item| nth(item, left)),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) => None,
    }
}

const ODD: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "1",
    "2",
    "-1",
    "0.25",
    "-0.0",
    "300",
    "100000000",
    "9007199254740993",
    "18446744073709551615",
    "-9223372036854775808",
    "1e308",
    "1e-320",
    "\"\"",
    "\"auto\"",
    "\"none\"",
    "\"function\"",
    "\"text\"",
    "\"user\"",
    "\"assistant\"",
    "\"test/small\"",
    "\"test/large\"",
    "\"test/unpriced\"",
    "\"other/model\"",
    "\"https://example.com/a.png\"",
    "\"data:image/png;base64,iVBORw0KGgo=\"",
    "\"\\u0000\\ud83d\\ude00\"",
    "[]",
    "{}",
    "[{\"type\":\"text\",\"text\":\"x\"}]",
    "{\"type\":\"web_search\"}",
    "{\"cost\":-1}",
];
