//! The executor that the trainer sees.

use crate::check::check;
use crate::convert::{from_burn, to_burn, values};
use crate::guard::guard;
use crate::interpret::{Run, run};
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Tensor as BurnTensor, TensorData};
use viscera_net::{Executor, Graph, NetError, Op, ParamId, Shapes, Tensor, Values, Weights};

/// A graph with its weights on a device of Burn, which can be run and differentiated.
#[derive(Debug)]
pub struct BurnExecutor<B: AutodiffBackend> {
    graph: Graph,
    weights: Weights,
    /// The weights on the device, flat.
    params: Vec<BurnTensor<B::InnerBackend, 1>>,
    device: B::Device,
    tape: Option<Tape<B>>,
}

/// What the forward pass leaves for the backward pass.
#[derive(Debug)]
struct Tape<B: AutodiffBackend> {
    params: Vec<BurnTensor<B, 1>>,
    heads: Vec<BurnTensor<B, 5>>,
    statistics: Vec<(ParamId, BurnTensor<B::InnerBackend, 1>)>,
}

impl<B: AutodiffBackend> BurnExecutor<B> {
    /// Puts a graph and its weights on a device.
    ///
    /// # Errors
    /// [`NetError::Parameter`] or [`NetError::LengthMismatch`] when the weights do not fit the graph; [`NetError::Executor`] when
    /// the device or its driver does not work.
    pub fn new(graph: &Graph, weights: &Weights, device: &B::Device) -> Result<Self, NetError> {
        weights.check(graph)?;
        Ok(Self {
            graph: graph.clone(),
            weights: weights.clone(),
            params: upload::<B>(weights, device)?,
            device: device.clone(),
            tape: None,
        })
    }

    /// The shapes that an input gives, once it is clear that nothing can go wrong on the way.
    fn shapes(&self, input: &Tensor) -> Result<Shapes, NetError> {
        let shapes = self.graph.shapes(input.spatial())?;
        check(&self.graph)?;
        let [batch, found, ..] = input.shape();
        for node in &self.graph.nodes {
            if let Op::Input { channels } = node.op
                && (channels != found || batch == 0)
            {
                return Err(NetError::Shape {
                    node: node.name.clone(),
                    reason: format!(
                        "needs {channels} channels and at least one sample, got {:?}",
                        input.shape()
                    ),
                });
            }
        }
        Ok(shapes)
    }

    /// The forward pass, with what the backward pass needs.
    fn record(&self, input: &Tensor, shapes: &Shapes, seed: u64) -> Result<(Vec<Tensor>, Tape<B>), NetError> {
        let input = to_burn(input.clone(), &self.device);
        let params: Vec<_> = self
            .params
            .iter()
            .map(|param| BurnTensor::from_inner(param.clone()).require_grad())
            .collect();
        let Run { heads, statistics } = run(&self.graph, shapes, &params, &input, Some(seed))?;
        let statistics = statistics.into_iter().map(|(id, value)| (id, value.inner())).collect();
        let outputs = heads.iter().map(|head| from_burn(head.clone().inner()));
        let outputs = outputs.collect::<Result<_, _>>()?;
        let tape = Tape {
            params,
            heads,
            statistics,
        };
        Ok((outputs, tape))
    }

    /// The backward pass.
    fn differentiate(&self, tape: Tape<B>, gradients: &[Tensor]) -> Result<Vec<Vec<f32>>, NetError> {
        let Tape {
            params,
            heads,
            statistics,
        } = tape;
        // Its gradient by each head is the one given.
        let mut loss: Option<BurnTensor<B, 1>> = None;
        for (head, gradient) in heads.into_iter().zip(gradients) {
            let term = (head * to_burn(gradient.clone(), &self.device)).sum();
            loss = Some(match loss {
                Some(sum) => sum + term,
                None => term,
            });
        }
        let Some(loss) = loss else {
            return Ok(self.weights.values.iter().map(|v| vec![0.0; v.len()]).collect());
        };
        let mut found = loss.backward();
        let mut gradients = params
            .iter()
            .zip(&self.weights.values)
            .map(|(param, value)| match param.grad_remove(&mut found) {
                Some(gradient) => values(gradient),
                // No output depends on it.
                None => Ok(vec![0.0; value.len()]),
            })
            .collect::<Result<Vec<Vec<f32>>, NetError>>()?;
        for (id, of_batch) in statistics {
            let present = &self.weights.values[id.0];
            let sums = gradients[id.0].iter_mut().zip(present.iter().zip(values(of_batch)?));
            sums.for_each(|(sum, (present, of_batch))| *sum += present - of_batch);
        }
        Ok(gradients)
    }
}

/// Puts parameters on a device, flat.
fn upload<B: AutodiffBackend>(
    weights: &Weights,
    device: &B::Device,
) -> Result<Vec<BurnTensor<B::InnerBackend, 1>>, NetError> {
    let tensor = |values: &Values| {
        let data = TensorData::new(values.to_vec(), [values.len()]);
        BurnTensor::from_data(data, device)
    };
    guard(|| Ok(weights.values.iter().map(tensor).collect()))
}

impl<B: AutodiffBackend> Executor for BurnExecutor<B> {
    fn forward(&mut self, input: &Tensor, seed: u64) -> Result<Vec<Tensor>, NetError> {
        self.tape = None;
        let shapes = self.shapes(input)?;
        let (outputs, tape) = guard(|| self.record(input, &shapes, seed))?;
        self.tape = Some(tape);
        Ok(outputs)
    }

    fn backward(&mut self, gradients: &[Tensor]) -> Result<Vec<Vec<f32>>, NetError> {
        let wrong = |reason: String| NetError::Backward { reason };
        let tape = self
            .tape
            .take()
            .ok_or_else(|| wrong("there was no forward pass".to_owned()))?;
        let expected: Vec<_> = tape.heads.iter().map(BurnTensor::dims).collect();
        let found: Vec<_> = gradients.iter().map(Tensor::shape).collect();
        if expected != found {
            return Err(wrong(format!(
                "gradients of shapes {found:?} for outputs of {expected:?}"
            )));
        }
        guard(|| self.differentiate(tape, gradients))
    }

    fn infer(&mut self, input: &Tensor) -> Result<Vec<Tensor>, NetError> {
        let shapes = self.shapes(input)?;
        guard(|| {
            let input = to_burn(input.clone(), &self.device);
            let run = run(&self.graph, &shapes, &self.params, &input, None)?;
            run.heads.into_iter().map(from_burn).collect()
        })
    }

    fn parameters(&self) -> &Weights {
        &self.weights
    }

    fn set_parameters(&mut self, weights: &Weights) -> Result<(), NetError> {
        weights.check(&self.graph)?;
        self.params = upload::<B>(weights, &self.device)?;
        self.weights.clone_from(weights);
        Ok(())
    }
}
