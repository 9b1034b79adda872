//! Training: data sets, augmentation, losses, schemes, trainer
