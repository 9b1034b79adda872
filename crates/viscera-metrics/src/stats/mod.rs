//! Statistics on plain numbers: description with bootstrap intervals, paired tests, ranking of many systems.
//!
//! Nothing here knows label maps. All results depend on the numbers and the seed alone, not on the number of threads.

mod bootstrap;
mod describe;
mod holm;
mod order;
mod rank;
mod wilcoxon;

pub use bootstrap::Bootstrap;
pub use describe::{Described, describe};
pub use holm::holm;
pub use order::{kendall_tau_b, mean_ranks, percentile};
pub use rank::{RankMethod, RankMetric, RankStability, RankTable, Ranking, SystemRank, rank};
pub use wilcoxon::{Wilcoxon, ZeroMethod, wilcoxon_signed_rank};
