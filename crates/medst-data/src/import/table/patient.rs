//! Columns that identify a patient, which a corpus does not carry along unless they are asked for
//! by name.
//!
//! A column is recognised by its name (`PatientName`, `first_name`, `MRN`, `dob`), or by cells
//! written as DICOM writes names (`DOE^JANE`). The ids that the table declares (`subject_id`,
//! `study_id`) are not among them.

use std::sync::LazyLock;

use regex::Regex;

const NAMES: &str = "name, surname, forename, lastname, firstname, middlename, givenname, familyname, fullname, maidenname, \
    patientname, patname, patient, physician, doctor, radiologist, referringphysician, \
    referringphysicianname, physicianname, operatorsname, attending, nachname, vorname, nom, prenom, nombre, \
    apellido, apellidos";
const NUMBERS: &str = "mrn, patientid, patientids, patientno, patientnr, patientnum, patientnumber, patientcode, \
    patientidentifier, otherpatientid, otherpatientids, patid, pid, ssn, socialsecurity, \
    socialsecuritynumber, nhsno, nhsnumber, chinumber, hospitalid, hospitalno, hospitalnumber, medicalrecord, \
    medicalrecordno, medicalrecordnumber, recordnumber, casenumber, accession, accessionno, accessionnumber, \
    insuranceid, insurancenumber, nationalid, passport, healthcardnumber, emrid, ehrid, empi, uhid, \
    fallnummer, patientennummer, medicalrecordid";
const CONTACTS: &str = "address, patientaddress, street, phone, phonenumber, telephone, mobile, email, zip, zipcode, postcode, \
    postalcode";

static PERSON_NAME: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^[\p{L}' .-]+\^[\p{L}' .^-]*$").expect("a valid expression"));

/// What kind of information about a patient a column seems to contain; `None` if none.
///
/// * `cells`: the cells of the column.
pub fn holds<'a>(column: &str, cells: impl Iterator<Item = &'a str>) -> Option<&'static str> {
    let name: String = column.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    let name = name.as_str();
    let listed = |names: &str| names.split(", ").any(|known| known == name);
    if listed(NAMES)
        || (name.ends_with("name")
            && ["patient", "physician", "last", "first"].iter().any(|part| name.starts_with(part)))
    {
        return Some("names");
    }
    if listed(NUMBERS) || (name.starts_with("mrn") && name.len() < 8) {
        return Some("patient numbers");
    }
    let born = name.contains("birth") && !name.contains("weight");
    if born || ["dob", "patientdob", "yob", "born", "geburtsdatum"].contains(&name) {
        return Some("birth dates");
    }
    if listed(CONTACTS) {
        return Some("addresses");
    }
    let (mut all, mut persons) = (0, 0);
    for cell in cells.take(200) {
        all += 1;
        persons += usize::from(PERSON_NAME.is_match(cell));
    }
    (persons > 0 && persons * 2 >= all).then_some("names")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_about_a_patient_are_recognised_and_findings_are_not() {
        let of = |column: &str| holds(column, std::iter::empty());
        for (column, what) in [
            ("PatientName", "names"),
            ("patient_name", "names"),
            ("First Name", "names"),
            ("LAST_NAME", "names"),
            ("MRN", "patient numbers"),
            ("PatientID", "patient numbers"),
            ("accession-number", "patient numbers"),
            ("PatientBirthDate", "birth dates"),
            ("date_of_birth", "birth dates"),
            ("DOB", "birth dates"),
            ("Phone Number", "addresses"),
        ] {
            assert_eq!(of(column), Some(what), "{column}");
        }
        for column in [
            "Pneumonia",
            "file_name",
            "filename",
            "dataset",
            "sex",
            "age",
            "birth_weight",
            "PatientSex",
            "PatientAge",
            "boxes",
            "No Finding",
            "series",
            "protocol_name",
            "scanner name",
            "label",
            "covid",
            "Enlarged Cardiomediastinum",
        ] {
            assert_eq!(of(column), None, "{column}");
        }
        assert_eq!(holds("info", ["DOE^JANE", "ROE^RICHARD^M"].into_iter()), Some("names"));
        assert_eq!(holds("power", ["10^3", "Opacity, left", "x"].into_iter()), None);
    }
}
