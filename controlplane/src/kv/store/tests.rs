mod bounds;
mod model;
mod rules;
