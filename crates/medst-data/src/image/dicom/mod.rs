//! stub
use crate::Result;
use crate::study::View;
use std::path::Path;
pub struct Header {
    pub view: Option<View>,
    pub study_date: Option<String>,
    pub study_time: Option<String>,
}
pub fn header(_path: &Path) -> Result<Header> {
    Ok(Header { view: Some(View::Pa), study_date: None, study_time: None })
}
