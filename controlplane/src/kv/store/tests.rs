mod bounds;
mod model;
mod rules;
mod texts;
