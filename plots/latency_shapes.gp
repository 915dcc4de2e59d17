# Time of a forward pass as a multiple of the reference's, against the tokens of the pass; one block per row: tokens, ratio, its interval.
# Rows stand a little beside each other.
set xlabel 'Tokens of a forward pass (batch × length)' textcolor rgb INK
set ylabel YLABEL textcolor rgb INK
set logscale x 2
set xrange [XLOW:XHIGH]
set yrange [YLOW:YHIGH]
set grid xtics ytics
set arrow 1 from graph 0, first 1 to graph 1, first 1 nohead linecolor rgb INK dashtype 3 linewidth 1
set pointsize 1.3*POINTS
plot for [i=1:N] DATA index i-1 using ($1*1.045**(i-(N+1)/2.0)):2:3:4 with yerrorbars linecolor rgb COLOUR[i] linewidth 1 pointtype POINT[i] notitle
