"""Figures of studies, trials and networks, as SVG or Plotly pages."""
