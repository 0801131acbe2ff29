mod hostile;
pub(crate) mod pack;
mod recorded;
mod shapes;
