//! The messages of ONNX that a network needs, borrowed from the file. Field numbers are those of `onnx.proto3`.
//!
//! What is nested deeper than here (subgraphs in attributes, optional types) is skipped unread, so no file can make the
//! reader recurse.

use super::wire::{Field, Reader};

/// Calls `take` for each field of a message.
fn each<'a>(bytes: &'a [u8], mut take: impl FnMut(u64, Field<'a>) -> Result<(), String>) -> Result<(), String> {
    let mut reader = Reader::new(bytes);
    while let Some((number, field)) = reader.next()? {
        take(number, field)?;
    }
    Ok(())
}

/// A model: one graph and the versions of the operator sets that it uses.
#[derive(Debug, Default)]
pub(super) struct ModelProto<'a> {
    pub(super) graph: Option<GraphProto<'a>>,
    /// Domain and version.
    pub(super) opsets: Vec<(&'a str, i64)>,
}

impl<'a> ModelProto<'a> {
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, String> {
        let mut model = Self::default();
        each(bytes, |number, field| {
            match number {
                7 => model.graph = Some(GraphProto::decode(field.bytes()?)?),
                8 => {
                    let (mut domain, mut version) = ("", 0);
                    each(field.bytes()?, |number, field| {
                        match number {
                            1 => domain = field.text()?,
                            2 => version = field.int()?,
                            _ => {}
                        }
                        Ok(())
                    })?;
                    model.opsets.push((domain, version));
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(model)
    }
}

/// A graph.
#[derive(Debug, Default)]
pub(super) struct GraphProto<'a> {
    pub(super) name: &'a str,
    pub(super) nodes: Vec<NodeProto<'a>>,
    pub(super) initializers: Vec<TensorProto<'a>>,
    pub(super) inputs: Vec<ValueProto<'a>>,
    pub(super) outputs: Vec<ValueProto<'a>>,
    /// Whether there are sparse initialisers, which are not read.
    pub(super) sparse: bool,
}

impl<'a> GraphProto<'a> {
    fn decode(bytes: &'a [u8]) -> Result<Self, String> {
        let mut graph = Self::default();
        each(bytes, |number, field| {
            match number {
                1 => graph.nodes.push(NodeProto::decode(field.bytes()?)?),
                2 => graph.name = field.text()?,
                5 => graph.initializers.push(TensorProto::decode(field.bytes()?)?),
                11 => graph.inputs.push(ValueProto::decode(field.bytes()?)?),
                12 => graph.outputs.push(ValueProto::decode(field.bytes()?)?),
                15 => graph.sparse = true,
                _ => {}
            }
            Ok(())
        })?;
        Ok(graph)
    }
}

/// A node.
#[derive(Debug, Default)]
pub(super) struct NodeProto<'a> {
    pub(super) inputs: Vec<&'a str>,
    pub(super) outputs: Vec<&'a str>,
    pub(super) name: &'a str,
    pub(super) op: &'a str,
    pub(super) domain: &'a str,
    pub(super) attributes: Vec<AttributeProto<'a>>,
}

impl<'a> NodeProto<'a> {
    fn decode(bytes: &'a [u8]) -> Result<Self, String> {
        let mut node = Self::default();
        each(bytes, |number, field| {
            match number {
                1 => node.inputs.push(field.text()?),
                2 => node.outputs.push(field.text()?),
                3 => node.name = field.text()?,
                4 => node.op = field.text()?,
                5 => node.attributes.push(AttributeProto::decode(field.bytes()?)?),
                7 => node.domain = field.text()?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(node)
    }

    fn attribute(&self, name: &str) -> Option<&AttributeProto<'a>> {
        self.attributes.iter().find(|a| a.name == name)
    }

    /// An integer attribute.
    pub(super) fn int(&self, name: &str) -> Option<i64> {
        self.attribute(name)?.int
    }

    /// A float attribute.
    pub(super) fn float(&self, name: &str) -> Option<f32> {
        self.attribute(name)?.float
    }

    /// A string attribute.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        std::str::from_utf8(self.attribute(name)?.bytes?).ok()
    }

    /// A list of integers.
    pub(super) fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attribute(name).map(|a| a.ints.as_slice())
    }

    /// A list of floats.
    pub(super) fn floats(&self, name: &str) -> Option<&[f32]> {
        self.attribute(name).map(|a| a.floats.as_slice())
    }

    /// A tensor.
    pub(super) fn tensor(&self, name: &str) -> Option<&TensorProto<'a>> {
        self.attribute(name)?.tensor.as_ref()
    }
}

/// A named constant of a node.
#[derive(Debug, Default)]
pub(super) struct AttributeProto<'a> {
    name: &'a str,
    int: Option<i64>,
    float: Option<f32>,
    bytes: Option<&'a [u8]>,
    tensor: Option<TensorProto<'a>>,
    ints: Vec<i64>,
    floats: Vec<f32>,
}

impl<'a> AttributeProto<'a> {
    fn decode(bytes: &'a [u8]) -> Result<Self, String> {
        let mut attribute = Self::default();
        each(bytes, |number, field| {
            match number {
                1 => attribute.name = field.text()?,
                2 => attribute.float = Some(field.float()?),
                3 => attribute.int = Some(field.int()?),
                4 => attribute.bytes = Some(field.bytes()?),
                5 => attribute.tensor = Some(TensorProto::decode(field.bytes()?)?),
                7 => field.floats(&mut attribute.floats)?,
                8 => field.ints(&mut attribute.ints)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(attribute)
    }
}

/// A constant array, its values not yet decoded.
#[derive(Debug, Default, Clone)]
pub(super) struct TensorProto<'a> {
    pub(super) name: &'a str,
    pub(super) dims: Vec<i64>,
    pub(super) data_type: i64,
    pub(super) raw: Option<&'a [u8]>,
    /// Values in typed fields: the field's number and content.
    pub(super) typed: Vec<(u64, Field<'a>)>,
    /// Keys and values that say where the data lie outside the file.
    pub(super) external: Vec<(&'a str, &'a str)>,
    pub(super) is_external: bool,
}

impl<'a> TensorProto<'a> {
    fn decode(bytes: &'a [u8]) -> Result<Self, String> {
        let mut tensor = Self::default();
        each(bytes, |number, field| {
            match number {
                1 => field.ints(&mut tensor.dims)?,
                2 => tensor.data_type = field.int()?,
                4 | 5 | 7 | 10 => tensor.typed.push((number, field)),
                8 => tensor.name = field.text()?,
                9 => tensor.raw = Some(field.bytes()?),
                13 => {
                    let (mut key, mut value) = ("", "");
                    each(field.bytes()?, |number, field| {
                        match number {
                            1 => key = field.text()?,
                            2 => value = field.text()?,
                            _ => {}
                        }
                        Ok(())
                    })?;
                    tensor.external.push((key, value));
                }
                14 => tensor.is_external = field.int()? == 1,
                _ => {}
            }
            Ok(())
        })?;
        Ok(tensor)
    }
}

/// An input or output with its type.
#[derive(Debug, Default)]
pub(super) struct ValueProto<'a> {
    pub(super) name: &'a str,
    /// Extent per axis, `None` where it is left open. `None` as a whole where no shape is given.
    pub(super) dims: Option<Vec<Option<i64>>>,
}

impl<'a> ValueProto<'a> {
    fn decode(bytes: &'a [u8]) -> Result<Self, String> {
        let mut value = Self::default();
        each(bytes, |number, field| {
            match number {
                1 => value.name = field.text()?,
                2 => each(field.bytes()?, |number, field| match number {
                    1 => each(field.bytes()?, |number, field| match number {
                        2 => shape(field.bytes()?).map(|dims| value.dims = Some(dims)),
                        _ => Ok(()),
                    }),
                    _ => Ok(()),
                })?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(value)
    }
}

fn shape(bytes: &[u8]) -> Result<Vec<Option<i64>>, String> {
    let mut dims = Vec::new();
    each(bytes, |number, field| {
        if number == 1 {
            let mut value = None;
            each(field.bytes()?, |number, field| {
                if number == 1 {
                    value = Some(field.int()?);
                }
                Ok(())
            })?;
            dims.push(value);
        }
        Ok(())
    })?;
    Ok(dims)
}
