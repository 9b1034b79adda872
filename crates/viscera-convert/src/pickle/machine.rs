//! A pickle machine that builds plain data.
//!
//! Values live in one list and name each other by place, so that neither depth nor cycles can hurt. The number of values
//! is bounded, and every list is as long as instructions that filled it.

use super::reduce::{Global, call, persistent};
use super::tensor::{Storage, TensorRef};
use std::collections::HashMap;

/// Most values of one checkpoint. Training logs of 117 classes and 1000 epochs have half a million.
const MAX_VALUES: usize = 4 << 20;

/// A value, by its place.
pub(super) type Id = u32;

/// A value of a pickle.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// `None`, and what is of no use to us: optimiser objects, `torch.device` and the like.
    None,
    /// A whole number or, as in Python, a truth value.
    Int(i64),
    Float(f64),
    Text(Box<str>),
    Bytes(Box<[u8]>),
    /// List, tuple or set.
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(Box<Storage>),
    Tensor(Box<TensorRef>),
}

impl Value {
    /// Bytes beside the value itself.
    fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::List(items) => 4 * items.len(),
            Self::Dict(pairs) => 8 * pairs.len(),
            Self::Storage(storage) => 48 + storage.key.len(),
            Self::Tensor(tensor) => 112 + tensor.storage.key.len() + 16 * tensor.shape().len(),
            _ => 0,
        }
    }
}

/// All values of a pickle.
#[derive(Debug)]
pub(super) struct Values(Vec<Value>);

impl Values {
    pub(super) fn get(&self, id: Id) -> &Value {
        self.0.get(id as usize).unwrap_or(&Value::None)
    }

    pub(super) fn list(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    pub(super) fn text(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Runs a pickle. Gives all values and the one that it stands for.
pub(super) fn run(bytes: &[u8]) -> Result<(Values, Id), String> {
    let mut machine = Machine {
        bytes,
        at: 0,
        values: Values(Vec::new()),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        budget: bytes.len().saturating_mul(16).saturating_add(1 << 16),
    };
    loop {
        let at = machine.at;
        let code = machine.byte()?;
        if code == b'.' {
            let root = machine.pop()?;
            return Ok((machine.values, root));
        }
        machine
            .step(code)
            .map_err(|reason| format!("{reason} (byte {at} of its pickle)"))?;
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Values,
    stack: Vec<Id>,
    /// Heights of the stack at which groups began.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    /// Bytes that values may still have. Copies of a long list or text could otherwise outgrow the pickle without limit.
    budget: usize,
}

impl<'a> Machine<'a> {
    fn step(&mut self, code: u8) -> Result<(), String> {
        match code {
            0x80 => self.byte().map(drop)?,  // PROTO
            0x95 => self.take(8).map(drop)?, // FRAME
            b'(' => self.marks.push(self.stack.len()),
            b'0' => self.pop().map(drop)?, // POP
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'N' => self.push(Value::None)?,
            0x88 => self.push(Value::Int(1))?,
            0x89 => self.push(Value::Int(0))?,
            b'K' => {
                let n = self.byte()?;
                self.push(Value::Int(n.into()))?;
            }
            b'M' => {
                let n = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(n.into()))?;
            }
            b'J' => {
                let n = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(n.into()))?;
            }
            0x8a => {
                let len = self.byte()?.into();
                let value = long(self.take(len)?);
                self.push(value)?;
            }
            b'G' => {
                let x = f64::from_be_bytes(self.array()?);
                self.push(Value::Float(x))?;
            }
            // Text and bytes, with lengths of 4, 1 and 8 bytes.
            b'X' | 0x8c | 0x8d => {
                let len = self.length(match code {
                    b'X' => 4,
                    0x8c => 1,
                    _ => 8,
                })?;
                let text = str::from_utf8(self.take(len)?).map_err(|_| "a text that is not UTF-8")?;
                self.push(Value::Text(text.into()))?;
            }
            b'B' | b'C' | 0x8e | b'T' | b'U' => {
                let len = self.length(match code {
                    b'B' | b'T' => 4,
                    0x8e => 8,
                    _ => 1,
                })?;
                let bytes = self.take(len)?.into();
                self.push(Value::Bytes(bytes))?;
            }
            b']' | 0x8f | b')' => self.push(Value::List(Vec::new()))?,
            b'}' => self.push(Value::Dict(Vec::new()))?,
            b't' | b'l' | 0x91 => {
                let items = self.group()?;
                self.push(Value::List(items))?;
            }
            0x85..=0x87 => {
                let items = self.popped(usize::from(code - 0x84))?;
                self.push(Value::List(items))?;
            }
            b'a' => {
                let items = self.popped(1)?;
                self.append(items)?;
            }
            b'e' | 0x90 => {
                let items = self.group()?;
                self.append(items)?;
            }
            b's' => {
                let items = self.popped(2)?;
                self.set_items(&items)?;
            }
            b'u' => {
                let items = self.group()?;
                self.set_items(&items)?;
            }
            b'd' => {
                let items = self.group()?;
                let pairs = items.as_chunks().0.iter().map(|&[k, v]| (k, v)).collect();
                self.push(Value::Dict(pairs))?;
            }
            // The memo.
            b'q' | b'r' | 0x94 => {
                let place = match code {
                    b'q' => self.byte()?.into(),
                    b'r' => u32::from_le_bytes(self.array()?),
                    _ => self.memo.len() as u32,
                };
                let top = self.top()?;
                if self.memo.len() >= MAX_VALUES {
                    return Err(format!("keeps more than {MAX_VALUES} values"));
                }
                self.memo.insert(place, top);
            }
            b'h' | b'j' => {
                let place = match code {
                    b'h' => self.byte()?.into(),
                    _ => u32::from_le_bytes(self.array()?),
                };
                let id = *self.memo.get(&place).ok_or("recalls what it never kept")?;
                self.stack.push(id);
            }
            // Names: looked up in the list of those that are allowed.
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                let global = Global::find(module, name)?;
                self.push(Value::Global(global))?;
            }
            0x93 => {
                let items = self.popped(2)?;
                let global = match items[..] {
                    [module, name] => match (self.values.text(module), self.values.text(name)) {
                        (Some(module), Some(name)) => Global::find(module, name)?,
                        _ => return Err("a name that is no text".to_owned()),
                    },
                    _ => return Err("a name that is no text".to_owned()),
                };
                self.push(Value::Global(global))?;
            }
            // REDUCE and NEWOBJ: what an allowed name makes of its arguments.
            b'R' | 0x81 => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                let Value::Global(global) = *self.values.get(function) else {
                    return Err("calls what is no function".to_owned());
                };
                let value = call(global, arguments, &self.values)?;
                self.push(value)?;
            }
            // BUILD: attributes of an object; none matters.
            b'b' => self.pop().map(drop)?,
            b'Q' => {
                let id = self.pop()?;
                let storage = persistent(id, &self.values)?;
                self.push(Value::Storage(Box::new(storage)))?;
            }
            other => {
                let shown = char::from(other).escape_default();
                return Err(format!("the pickle instruction '{shown}' is not allowed"));
            }
        }
        Ok(())
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(len);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or("its pickle ends too early")?;
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.take(N)?
            .try_into()
            .map_err(|_| "its pickle ends too early".to_owned())
    }

    fn byte(&mut self) -> Result<u8, String> {
        self.array().map(|[byte]: [u8; 1]| byte)
    }

    /// A length of so many bytes, little-endian.
    fn length(&mut self, bytes: usize) -> Result<usize, String> {
        let mut whole = [0; 8];
        for (to, from) in whole.iter_mut().zip(self.take(bytes)?) {
            *to = *from;
        }
        usize::try_from(u64::from_le_bytes(whole)).map_err(|_| "its pickle ends too early".to_owned())
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let len = rest
            .iter()
            .position(|&b| b == b'\n')
            .ok_or("its pickle ends too early")?;
        let text = self.take(len + 1)?.get(..len).unwrap_or_default();
        str::from_utf8(text).map_err(|_| "a name that is not UTF-8".to_owned())
    }

    fn push(&mut self, value: Value) -> Result<(), String> {
        if self.values.0.len() >= MAX_VALUES {
            return Err(format!("more than {MAX_VALUES} values"));
        }
        let rest = self.budget.checked_sub(value.size());
        self.budget = rest.ok_or("its values outgrow it: no checkpoint does that")?;
        self.stack.push(self.values.0.len() as Id);
        self.values.0.push(value);
        Ok(())
    }

    /// Values of the innermost group stand above this height.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Id, String> {
        match self.stack.last() {
            Some(&id) if self.stack.len() > self.floor() => Ok(id),
            _ => Err("takes from an empty stack".to_owned()),
        }
    }

    fn pop(&mut self) -> Result<Id, String> {
        let id = self.top()?;
        self.stack.pop();
        Ok(id)
    }

    fn popped(&mut self, count: usize) -> Result<Vec<Id>, String> {
        match self.stack.len().checked_sub(count) {
            Some(height) if height >= self.floor() => Ok(self.stack.split_off(height)),
            _ => Err("takes from an empty stack".to_owned()),
        }
    }

    /// What was pushed since the last mark.
    fn group(&mut self) -> Result<Vec<Id>, String> {
        let height = self.marks.pop().ok_or("closes a group that was not opened")?;
        Ok(self.stack.split_off(height.min(self.stack.len())))
    }

    fn append(&mut self, items: Vec<Id>) -> Result<(), String> {
        let list = self.top()?;
        match self.values.0.get_mut(list as usize) {
            Some(Value::List(to)) => to.extend(items),
            _ => return Err("appends to what is no list".to_owned()),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Id]) -> Result<(), String> {
        let dict = self.top()?;
        match self.values.0.get_mut(dict as usize) {
            Some(Value::Dict(to)) => to.extend(items.as_chunks().0.iter().map(|&[k, v]| (k, v))),
            _ => return Err("sets items of what is no dictionary".to_owned()),
        }
        Ok(())
    }
}

/// A whole number of up to 8 bytes, two's complement; longer ones (random states) are of no use.
fn long(bytes: &[u8]) -> Value {
    if bytes.len() > 8 {
        return Value::None;
    }
    let fill = if bytes.last().is_some_and(|b| b & 0x80 != 0) {
        0xff
    } else {
        0
    };
    let mut whole = [fill; 8];
    for (to, from) in whole.iter_mut().zip(bytes) {
        *to = *from;
    }
    Value::Int(i64::from_le_bytes(whole))
}
