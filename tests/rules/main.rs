//! The rules of the design, in the order in which they bite: each sentence of a rule has a test in
//! the rule's module. They run over plain tower services, without axum.

mod importing;
mod jar;
mod kit;
mod rule_01_lazy;
mod rule_02_no_error_to_the_client;
mod rule_03_transactional;
mod rule_04_changed;
mod rule_05_head;
mod rule_06_reissue;
mod rule_07_caches;
mod rule_08_after_the_head;
mod rule_09_left_alone;
mod rule_10_several_cookies;
mod rule_11_sign_out;
mod rule_11_sign_out_model;
mod rule_12_nested_layers;
mod where_rules_meet;
