//! From a CT to organ masks: recipes, stages, post-processing, report
