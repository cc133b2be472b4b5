//! Changes a JSON text, or a stream of events that are JSON, as a tree: what a fuzzer that changes bytes rarely gets past a parser with.

use serde_json::{Map, Value, json};

/// Pseudo-random numbers (xorshift64): the same from the same seed.
pub struct Dice(u64);

/// Parts of texts seen before, to be put into others.
pub type Pool = Vec<(String, Value)>;

/// Most parts remembered.
const REMEMBERED: usize = 4096;

// === impl Dice ===

impl Dice {
    pub fn new(seed: u64) -> Self {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Less than `sides`; 0 when that is 0.
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % sides.max(1)
    }

    pub fn pick<'t, T>(&mut self, of: &'t [T]) -> &'t T {
        &of[self.roll(of.len())]
    }
}

/// For libFuzzer: seven changes of eight are of the tree, the others its own (`bytes`).
pub fn mixed(
    data: &mut [u8],
    size: usize,
    max_size: usize,
    seed: u32,
    bytes: impl FnOnce(&mut [u8], usize, usize) -> usize,
) -> usize {
    thread_local! {
        static POOL: std::cell::RefCell<Pool> = const { std::cell::RefCell::new(Pool::new()) };
    }
    let mut dice = Dice::new(u64::from(seed));
    if dice.roll(8) == 0 {
        return bytes(data, size, max_size);
    }
    let changed = POOL.with_borrow_mut(|pool| mutate(data.get(..size).unwrap_or_default(), &mut dice, pool));
    match data.get_mut(..changed.len()) {
        Some(place) if changed.len() <= max_size => {
            place.copy_from_slice(&changed);
            changed.len()
        }
        _ => bytes(data, size, max_size),
    }
}

/// A text behind one byte of choice (`head`), changed in one to four places.
pub fn mutate(data: &[u8], dice: &mut Dice, pool: &mut Pool) -> Vec<u8> {
    let Some((first, rest)) = data.split_first() else { return data.to_vec() };
    let mut out = vec![if dice.roll(64) == 0 { dice.roll(256) as u8 } else { *first }];
    if let Ok(mut value) = serde_json::from_slice::<Value>(rest) {
        remember(&value, dice, pool);
        for _ in 0..=dice.roll(4) {
            change(&mut value, dice, pool);
        }
        out.extend_from_slice(value.to_string().as_bytes());
        return out;
    }
    let text = String::from_utf8_lossy(rest);
    let mut frames: Vec<String> = text.split("\n\n").filter(|f| !f.is_empty()).map(str::to_owned).collect();
    for _ in 0..=dice.roll(4) {
        if !frames.is_empty() {
            let at = dice.roll(frames.len());
            change_frame(&mut frames, at, dice, pool);
        }
    }
    for frame in frames {
        out.extend_from_slice(frame.as_bytes());
        out.extend_from_slice(b"\n\n");
    }
    out
}

fn change_frame(frames: &mut Vec<String>, at: usize, dice: &mut Dice, pool: &mut Pool) {
    let other = dice.roll(frames.len());
    match dice.roll(12) {
        0 => drop(frames.remove(at)),
        1 => frames.insert(other, frames[at].clone()),
        2 => frames.swap(at, other),
        3 => frames.truncate(at + 1),
        _ => {
            let Some((head, data)) = frames[at].split_once("data:") else { return };
            let Ok(mut value) = serde_json::from_str::<Value>(data) else { return };
            remember(&value, dice, pool);
            change(&mut value, dice, pool);
            frames[at] = format!("{head}data: {value}");
        }
    }
}

fn remember(value: &Value, dice: &mut Dice, pool: &mut Pool) {
    let count = count(value);
    for _ in 0..4 {
        let mut value = value.clone();
        let (name, part) = node(&mut value, dice.roll(count), "");
        let part = (name, part.take());
        if pool.len() < REMEMBERED {
            pool.push(part);
        } else {
            let at = dice.roll(REMEMBERED);
            pool[at] = part;
        }
    }
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(members) => members.values().map(count).sum(),
        _ => 0,
    }
}

/// The value with this number, in the order of the text, and the name it has where it stands.
fn node<'v>(value: &'v mut Value, number: usize, name: &str) -> (String, &'v mut Value) {
    if number == 0 {
        return (name.to_owned(), value);
    }
    let mut number = number - 1;
    let children: Vec<(String, &mut Value)> = match value {
        Value::Array(items) => items.iter_mut().map(|item| (name.to_owned(), item)).collect(),
        Value::Object(members) => members.iter_mut().map(|(name, member)| (name.clone(), member)).collect(),
        _ => unreachable!("it was counted"),
    };
    for (name, child) in children {
        let within = count(child);
        if number < within {
            return node(child, number, &name);
        }
        number -= within;
    }
    unreachable!("it was counted")
}

fn change(root: &mut Value, dice: &mut Dice, pool: &Pool) {
    let total = count(root);
    let copy = {
        let mut root = root.clone();
        node(&mut root, dice.roll(total), "").1.take()
    };
    let (name, value) = node(root, dice.roll(total), "");
    match dice.roll(12) {
        0 => *value = odd(dice),
        1 => *value = copy,
        2 => *value = dice_pool(dice, pool).map_or(Value::Null, |(_, v)| v.clone()),
        // what stood at the same name elsewhere
        3 => {
            let same: Vec<&Value> = pool.iter().filter(|(n, _)| *n == name).map(|(_, v)| v).collect();
            if !same.is_empty() {
                *value = (*dice.pick(&same)).clone();
            }
        }
        _ => match value {
            Value::Array(items) => change_array(items, copy, dice, pool),
            Value::Object(members) => change_object(members, copy, dice, pool),
            Value::String(text) => change_text(text, dice),
            Value::Number(_) => *value = odd(dice),
            other => *other = json!(dice.roll(2) == 0),
        },
    }
}

fn dice_pool<'p>(dice: &mut Dice, pool: &'p Pool) -> Option<&'p (String, Value)> {
    pool.get(dice.roll(pool.len()))
}

fn change_array(items: &mut Vec<Value>, copy: Value, dice: &mut Dice, pool: &Pool) {
    let (at, other) = (dice.roll(items.len()), dice.roll(items.len()));
    match dice.roll(5) {
        0 if !items.is_empty() => drop(items.remove(at)),
        1 if !items.is_empty() => items.insert(other, items[at].clone()),
        2 if !items.is_empty() => items.swap(at, other),
        3 => items.insert(at, dice_pool(dice, pool).map_or(Value::Null, |(_, v)| v.clone())),
        _ => items.insert(at, copy),
    }
}

fn change_object(members: &mut Map<String, Value>, copy: Value, dice: &mut Dice, pool: &Pool) {
    let names: Vec<String> = members.keys().cloned().collect();
    let known = dice_pool(dice, pool).filter(|(name, _)| !name.is_empty()).cloned();
    match dice.roll(5) {
        0 if !names.is_empty() => drop(members.remove(dice.pick(&names))),
        1 if !names.is_empty() => drop(members.insert(dice.pick(&names).clone(), copy)),
        2 if !names.is_empty() => {
            if let (Some(value), Some((name, _))) = (members.remove(dice.pick(&names)), known) {
                members.insert(name, value);
            }
        }
        _ => members.extend(known),
    }
}

fn change_text(text: &mut String, dice: &mut Dice) {
    let at = (0..=text.len()).filter(|at| text.is_char_boundary(*at)).nth(dice.roll(text.len() + 1)).unwrap_or(0);
    match dice.roll(5) {
        0 => text.truncate(at),
        1 => text
            .insert_str(at, dice.pick::<&str>(&["\n", "\"", "\\", "\u{0}", "é", " ", "}", "data: x\n\n", "\u{2028}"])),
        2 => text.clear(),
        3 if text.len() < 4096 => *text = text.repeat(2),
        _ => {
            let words = [
                "{}",
                "{\"a\":1}",
                "[1]",
                "null",
                "\"x\"",
                "{\"a\":",
                "data:image/png;base64,iVBORw0KGgo=",
                "auto",
                "none",
            ];
            *text = (*dice.pick(&words)).to_owned();
        }
    }
}

/// What a place may not be ready for.
fn odd(dice: &mut Dice) -> Value {
    match dice.roll(18) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(0),
        3 => json!(-1),
        4 => json!(u64::MAX),
        5 => json!(1.5e300),
        6 => json!(0.5),
        7 => json!(4_294_967_296_u64),
        8 => json!(""),
        9 => json!("a"),
        10 => json!([]),
        11 => json!({}),
        12 => json!([{}]),
        13 => json!([[null]]),
        14 => json!({"": null}),
        15 => json!("\u{0}\n\u{2028}"),
        16 => json!(1),
        _ => json!({"type": "text", "text": "x"}),
    }
}
