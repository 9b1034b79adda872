//! Telling how far a scan has come.

use crate::StepTime;
use std::fmt;
use std::sync::Arc;

/// How far a step has come.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Name of the step, as in the manifest's timings.
    pub step: String,
    /// Share of it that is done, 0 to 1.
    pub fraction: f64,
    /// Seconds that it took, once it is done.
    pub seconds: Option<f64>,
}

/// Whom to tell; nobody by default. Called on the thread that segments, so it should be quick.
#[derive(Clone, Default)]
pub struct Watch(Option<Arc<dyn Fn(Progress) + Send + Sync>>);

impl Watch {
    /// Tells a function.
    pub fn new(tell: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(tell)))
    }

    /// Tells of a step that is done.
    pub(crate) fn done(&self, step: &StepTime) {
        if let Some(tell) = &self.0 {
            tell(Progress {
                step: step.step.clone(),
                fraction: 1.0,
                seconds: Some(step.seconds),
            });
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "Watch(somebody)"
        } else {
            "Watch(nobody)"
        })
    }
}
