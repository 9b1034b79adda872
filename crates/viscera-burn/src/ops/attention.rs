//! Self-attention inside windows.

use super::pad::roll_back;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData, activation};
use viscera_net::WindowAttention;

/// What [`WindowAttention`] says; `table` comes flat.
pub(crate) fn window_attention<B: Backend>(
    x: Tensor<B, 5>,
    attention: &WindowAttention,
    table: Tensor<B, 1>,
) -> Tensor<B, 5> {
    let [n, c3, ..] = x.dims();
    let extent: [usize; 3] = std::array::from_fn(|a| x.dims()[a + 2]);
    let (heads, window) = (attention.heads, attention.window);
    let width = c3 / 3 / heads;
    let device = x.device();
    let grid: [usize; 3] = std::array::from_fn(|a| extent[a] / window[a]);
    let windows: usize = grid.iter().product();
    let tokens: usize = window.iter().product();
    let [gz, gy, gx] = grid;
    let [wz, wy, wx] = window;

    // (part, sample, window, head, token, channel of the head)
    let parts = roll_back(x, attention.shift)
        .reshape([n, 3, heads * width, gz, wz, gy, wy, gx, wx])
        .permute([1, 0, 3, 5, 7, 2, 4, 6, 8])
        .reshape([3, n * windows, heads, width, tokens])
        .swap_dims(3, 4);
    let part = |i: usize| {
        parts
            .clone()
            .narrow(0, i, 1)
            .reshape([n * windows, heads, tokens, width])
    };
    let scale = 1.0 / (width as f32).sqrt();
    let scores = (part(0) * scale).matmul(part(1).swap_dims(2, 3));

    let rows = TensorData::new(rows(window), [tokens * tokens]);
    let bias = table
        .reshape([-1, heads as i32])
        .select(0, Tensor::<B, 1, Int>::from_data(rows, &device))
        .reshape([1, tokens, tokens, heads])
        .permute([0, 3, 1, 2]);
    let mut scores = scores + bias;
    if attention.shift != [0; 3] {
        let mask = TensorData::new(mask(attention, extent), [1, windows, 1, tokens, tokens]);
        let mask = Tensor::<B, 5>::from_data(mask, &device);
        scores =
            (scores.reshape([n, windows, heads, tokens, tokens]) + mask).reshape([n * windows, heads, tokens, tokens]);
    }
    let result = activation::softmax(scores, 3).matmul(part(2));
    let result = result
        .swap_dims(2, 3)
        .reshape([n, gz, gy, gx, heads * width, wz, wy, wx])
        .permute([0, 4, 1, 5, 2, 6, 3, 7])
        .reshape([n, heads * width, extent[0], extent[1], extent[2]]);
    // Back by the same way on.
    let shift = std::array::from_fn(|a| (extent[a] - attention.shift[a]) % extent[a]);
    roll_back(result, shift)
}

/// A token's place in a window.
fn place([_, wy, wx]: [usize; 3], token: usize) -> [usize; 3] {
    [token / (wy * wx), token / wx % wy, token % wx]
}

/// Row of the bias table for each pair of tokens.
fn rows(window: [usize; 3]) -> Vec<i64> {
    let tokens: usize = window.iter().product();
    let row = |i: usize| {
        (0..tokens).map(move |j| {
            let (i, j) = (place(window, i), place(window, j));
            (0..3).fold(0, |row, a| row * (2 * window[a] - 1) + i[a] + window[a] - 1 - j[a]) as i64
        })
    };
    (0..tokens).flat_map(row).collect()
}

/// −100 for pairs of tokens that only the roll has brought together: `[window][token][token]`.
fn mask(attention: &WindowAttention, extent: [usize; 3]) -> Vec<f32> {
    let window = attention.window;
    let tokens: usize = window.iter().product();
    let [_, gy, gx] = std::array::from_fn(|a| extent[a] / window[a]);
    let count = (0..3).map(|a| extent[a] / window[a]).product::<usize>();
    let region = |index: usize, token: usize| -> [usize; 3] {
        let (start, place) = ([index / (gy * gx), index / gx % gy, index % gx], place(window, token));
        std::array::from_fn(|a| {
            let (position, shift) = (start[a] * window[a] + place[a], attention.shift[a]);
            let ends = [extent[a] - window[a], extent[a] - shift];
            if shift == 0 {
                0
            } else {
                ends.iter().filter(|&&end| position >= end).count()
            }
        })
    };
    (0..count)
        .flat_map(|index| {
            let regions: Vec<_> = (0..tokens).map(|t| region(index, t)).collect();
            let line = |own: &[usize; 3]| {
                let own = *own;
                regions
                    .iter()
                    .map(move |r| if *r == own { 0.0 } else { -100.0 })
                    .collect::<Vec<_>>()
            };
            regions.iter().flat_map(line).collect::<Vec<_>>()
        })
        .collect()
}
