//! Window attention as a function of an ONNX model, which holds for every size that the windows divide.

use super::DOMAIN;
use super::export::{Attribute, FLOAT, INT64, float_bytes, int_bytes, node_message, tensor};
use super::wire::Message;
use viscera_net::WindowAttention;

/// Operator set of the function's body.
const OPSET: i64 = 17;
/// What is added to the score of two tokens that only the roll brought together.
const APART: f32 = -100.0;

/// The function's name: one per setting, since numbers of it stand in the body.
pub(super) fn name(settings: &WindowAttention) -> String {
    let join = |v: [usize; 3]| v.map(|n| n.to_string()).join("x");
    let (window, shift) = (join(settings.window), join(settings.shift));
    format!("WindowAttention_{}_{window}_{shift}", settings.heads)
}

/// The function: (queries, keys and values; bias table) to the attended values. See [`WindowAttention`].
pub(super) fn function(name: &str, settings: &WindowAttention) -> Message {
    let mut body = Body {
        nodes: Vec::new(),
        count: 0,
    };
    let output = attend(&mut body, settings);
    let mut function = Message::new()
        .text(1, name)
        .text(4, "qkv")
        .text(4, "table")
        .text(5, &output);
    for attribute in ["heads", "window", "shift"] {
        function = function.text(6, attribute);
    }
    function = body.nodes.iter().fold(function, |m, node| m.message(7, node));
    let opset = Message::new().text(1, "").int(2, OPSET);
    function.message(9, &opset).text(10, DOMAIN)
}

/// Nodes under construction. Each gives one value with a number for a name.
struct Body {
    nodes: Vec<Message>,
    count: usize,
}

impl Body {
    fn node(&mut self, op: &str, inputs: &[&str], attributes: &[(&str, Attribute)]) -> String {
        self.count += 1;
        let name = format!("v{}", self.count);
        self.nodes
            .push(node_message("", &name, op, inputs, &[&name], attributes));
        name
    }

    fn ints(&mut self, values: &[i64]) -> String {
        let data = tensor("", INT64, &[values.len()], &int_bytes(values));
        self.node("Constant", &[], &[("value", Attribute::Tensor(data))])
    }

    fn float(&mut self, value: f32) -> String {
        let data = tensor("", FLOAT, &[], &float_bytes(&[value]));
        self.node("Constant", &[], &[("value", Attribute::Tensor(data))])
    }

    fn join(&mut self, parts: &[&str], axis: i64) -> String {
        self.node("Concat", parts, &[("axis", Attribute::Int(axis))])
    }

    fn reshape(&mut self, value: &str, parts: &[&str]) -> String {
        let shape = self.join(parts, 0);
        self.node("Reshape", &[value, &shape], &[])
    }

    fn transpose(&mut self, value: &str, perm: &[i64]) -> String {
        self.node("Transpose", &[value], &[("perm", Attribute::Ints(perm.to_vec()))])
    }

    /// Brings what stands from `start` on to the front of an axis.
    fn roll(&mut self, value: &str, axis: i64, start: i64) -> String {
        let (zero, at, end, axes) = (
            self.ints(&[0]),
            self.ints(&[start]),
            self.ints(&[i64::MAX]),
            self.ints(&[axis]),
        );
        let late = self.node("Slice", &[value, &at, &end, &axes], &[]);
        let early = self.node("Slice", &[value, &zero, &at, &axes], &[]);
        self.join(&[&late, &early], axis)
    }
}

fn attend(body: &mut Body, settings: &WindowAttention) -> String {
    let [wz, wy, wx] = settings.window.map(|w| w as i64);
    let shift = settings.shift.map(|s| s as i64);
    let (heads, tokens) = (settings.heads as i64, wz * wy * wx);
    let mut x = "qkv".to_owned();
    for (axis, &s) in (2..).zip(&shift) {
        if s > 0 {
            x = body.roll(&x, axis, s);
        }
    }
    let size = |body: &mut Body, axis: i64| {
        body.node(
            "Shape",
            &["qkv"],
            &[("start", Attribute::Int(axis)), ("end", Attribute::Int(axis + 1))],
        )
    };
    let (batch, channels) = (size(body, 0), size(body, 1));
    let extent = [size(body, 2), size(body, 3), size(body, 4)];
    let window = [body.ints(&[wz]), body.ints(&[wy]), body.ints(&[wx])];
    let count = [0, 1, 2].map(|a: usize| {
        let (extent, window) = (
            extent.get(a).cloned().unwrap_or_default(),
            window.get(a).cloned().unwrap_or_default(),
        );
        body.node("Div", &[&extent, &window], &[])
    });
    let ([z, y, x_extent], [w0, w1, w2], [c0, c1, c2]) = (&extent, &window, &count);
    let (rest, three, h) = (body.ints(&[-1]), body.ints(&[3]), body.ints(&[heads]));
    let parts = body.ints(&[3 * heads]);
    let depth = body.node("Div", &[&channels, &parts], &[]);
    // (batch, which, head, depth, window z, z, window y, y, window x, x) to (which, batch, window, head, token, depth).
    let cut = body.reshape(&x, &[&batch, &three, &h, &depth, c0, w0, c1, w1, c2, w2]);
    let cut = body.transpose(&cut, &[1, 0, 4, 6, 8, 2, 5, 7, 9, 3]);
    let t = body.ints(&[tokens]);
    let cut = body.reshape(&cut, &[&three, &batch, &rest, &h, &t, &depth]);
    let [q, k, v] = [0, 1, 2].map(|which| {
        let index = body.ints(&[which]);
        let one = body.node("Gather", &[&cut, &index], &[("axis", Attribute::Int(0))]);
        let axes = body.ints(&[0]);
        body.node("Squeeze", &[&one, &axes], &[])
    });
    let wide = body.node("Cast", &[&depth], &[("to", Attribute::Int(FLOAT))]);
    let root = body.node("Sqrt", &[&wide], &[]);
    let q = body.node("Div", &[&q, &root], &[]);
    let k = body.transpose(&k, &[0, 1, 2, 4, 3]);
    let scores = body.node("MatMul", &[&q, &k], &[]);
    let bias = position_bias(body, settings, tokens);
    let mut scores = body.node("Add", &[&scores, &bias], &[]);
    if shift != [0; 3] {
        let mask = mask(body, settings, &extent, &window, &count, tokens);
        scores = body.node("Add", &[&scores, &mask], &[]);
    }
    let weights = body.node("Softmax", &[&scores], &[("axis", Attribute::Int(-1))]);
    let mixed = body.node("MatMul", &[&weights, &v], &[]);
    // (batch, window z, window y, window x, head, z, y, x, depth) back to (batch, channel, z, y, x).
    let mixed = body.reshape(&mixed, &[&batch, c0, c1, c2, &h, w0, w1, w2, &depth]);
    let mixed = body.transpose(&mixed, &[0, 4, 8, 1, 5, 2, 6, 3, 7]);
    let mut whole = body.reshape(&mixed, &[&batch, &rest, z, y, x_extent]);
    for (axis, &s) in (2..).zip(&shift) {
        if s > 0 {
            whole = body.roll(&whole, axis, -s);
        }
    }
    whole
}

/// The table's entries for each pair of tokens, `[heads, tokens, tokens]`.
fn position_bias(body: &mut Body, settings: &WindowAttention, tokens: i64) -> String {
    let [wz, wy, wx] = settings.window.map(|w| w as i64);
    let place = |t: i64| (t / (wy * wx), t / wx % wy, t % wx);
    let mut rows = Vec::new();
    for i in 0..tokens {
        for j in 0..tokens {
            let ((iz, iy, ix), (jz, jy, jx)) = (place(i), place(j));
            let (dz, dy, dx) = (iz - jz + wz - 1, iy - jy + wy - 1, ix - jx + wx - 1);
            rows.push((dz * (2 * wy - 1) + dy) * (2 * wx - 1) + dx);
        }
    }
    let rows = body.ints(&rows);
    let entries = body.node("Gather", &["table", &rows], &[("axis", Attribute::Int(0))]);
    let (t, rest) = (body.ints(&[tokens]), body.ints(&[-1]));
    let entries = body.reshape(&entries, &[&t, &t, &rest]);
    body.transpose(&entries, &[2, 0, 1])
}

/// What is added where two tokens of a window lie in different regions of the rolled volume,
/// `[windows, 1, tokens, tokens]`.
fn mask(
    body: &mut Body,
    settings: &WindowAttention,
    extent: &[String; 3],
    window: &[String; 3],
    count: &[String; 3],
    tokens: i64,
) -> String {
    let scalar = |body: &mut Body, value: i64| {
        let data = tensor("", INT64, &[], &int_bytes(&[value]));
        body.node("Constant", &[], &[("value", Attribute::Tensor(data))])
    };
    let (zero, one) = (scalar(body, 0), scalar(body, 1));
    let mut regions: Option<String> = None;
    let axes = extent.iter().zip(settings.window.iter().zip(&settings.shift));
    for (axis, (extent, (&w, &s))) in axes.enumerate() {
        let empty = body.ints(&[]);
        let n = body.node("Reshape", &[extent, &empty], &[]);
        let places = body.node("Range", &[&zero, &n, &one], &[]);
        let mut region = body.node("Mul", &[&places, &zero], &[]);
        if s > 0 {
            for back in [w, s] {
                let back = scalar(body, back as i64);
                let border = body.node("Sub", &[&n, &back], &[]);
                let behind = body.node("GreaterOrEqual", &[&places, &border], &[]);
                let behind = body.node("Cast", &[&behind], &[("to", Attribute::Int(INT64))]);
                region = body.node("Add", &[&region, &behind], &[]);
            }
        }
        // One number per region: z counts nine, y three, x one.
        let weight = scalar(body, [9, 3, 1].get(axis).copied().unwrap_or(1));
        let region = body.node("Mul", &[&region, &weight], &[]);
        let mut shape = [1i64; 3];
        if let Some(place) = shape.get_mut(axis) {
            *place = -1;
        }
        let shape = body.ints(&shape);
        let region = body.node("Reshape", &[&region, &shape], &[]);
        regions = Some(match regions {
            Some(sum) => body.node("Add", &[&sum, &region], &[]),
            None => region,
        });
    }
    let regions = regions.unwrap_or_default();
    let ([w0, w1, w2], [c0, c1, c2]) = (window, count);
    let cut = body.reshape(&regions, &[c0, w0, c1, w1, c2, w2]);
    let cut = body.transpose(&cut, &[0, 2, 4, 1, 3, 5]);
    let (rest, t) = (body.ints(&[-1]), body.ints(&[tokens]));
    let flat = body.reshape(&cut, &[&rest, &t]);
    let (first, second) = (body.ints(&[2]), body.ints(&[1]));
    let (rows, columns) = (
        body.node("Unsqueeze", &[&flat, &first], &[]),
        body.node("Unsqueeze", &[&flat, &second], &[]),
    );
    let same = body.node("Equal", &[&rows, &columns], &[]);
    let (together, apart) = (body.float(0.0), body.float(APART));
    let mask = body.node("Where", &[&same, &together, &apart], &[]);
    body.node("Unsqueeze", &[&mask, &second], &[])
}
