//! The account of a load: what became of every tensor of the checkpoint and every parameter of the model.
/// The account.
#[derive(Debug, Clone, Default)]
pub struct Account {}
