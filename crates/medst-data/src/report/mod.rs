//! Report text: sections, cleaning, word pieces (SPEC: "Report text").
