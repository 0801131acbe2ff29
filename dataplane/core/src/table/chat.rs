//! A backend's chat template, parsed when it is first needed: most are told as segments and never are.

use std::sync::{Arc, OnceLock};

use api::template::{ChatTemplate, RenderError, Renderer};

/// A chat template and, once it was needed, its renderer.
#[derive(Debug)]
pub struct ChatTable {
    /// What the snapshot says.
    pub template: Arc<ChatTemplate>,
    renderer: OnceLock<Result<Renderer, RenderError>>,
}

impl ChatTable {
    pub(super) fn new(template: Arc<ChatTemplate>) -> Self {
        Self { template, renderer: OnceLock::new() }
    }

    /// The renderer. Parsing takes milliseconds at most, so not on a core.
    ///
    /// # Errors
    /// When the template does not parse.
    pub fn renderer(&self) -> Result<&Renderer, &RenderError> {
        self.renderer.get_or_init(|| Renderer::new(&self.template)).as_ref()
    }
}
