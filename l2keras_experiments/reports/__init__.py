"""From recorded runs to statistics, findings, figures and pages."""
