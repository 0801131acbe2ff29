//! Writes JSON as MessagePack, as msgspec does. A text `0x…` is written as the bytes that it names.

use rmp::encode::{
    write_array_len, write_bin, write_bool, write_f64, write_map_len, write_nil, write_sint, write_str, write_uint,
};
use serde_json::Value;

pub(crate) fn pack(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, value);
    out
}

fn write(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => write_nil(out).unwrap(),
        Value::Bool(truth) => write_bool(out, *truth).unwrap(),
        Value::Number(number) if number.is_u64() => drop(write_uint(out, number.as_u64().unwrap()).unwrap()),
        Value::Number(number) if number.is_i64() => drop(write_sint(out, number.as_i64().unwrap()).unwrap()),
        Value::Number(number) => write_f64(out, number.as_f64().unwrap()).unwrap(),
        Value::String(text) => match text.strip_prefix("0x") {
            Some(digits) => write_bin(out, &bytes(digits)).unwrap(),
            None => write_str(out, text).unwrap(),
        },
        Value::Array(parts) => {
            write_array_len(out, parts.len() as u32).unwrap();
            parts.iter().for_each(|part| write(out, part));
        }
        Value::Object(pairs) => {
            write_map_len(out, pairs.len() as u32).unwrap();
            for (key, value) in pairs {
                write_str(out, key).unwrap();
                write(out, value);
            }
        }
    }
}

fn bytes(digits: &str) -> Vec<u8> {
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}
