# Against the number of training examples, one block per row: examples, mean, ends of the bar.
set xlabel 'Training examples' textcolor rgb INK
set ylabel YLABEL textcolor rgb INK
set logscale x
set xrange [XLOW:XHIGH]
set yrange [YLOW:YHIGH]
set grid xtics ytics
set pointsize 1.4*POINTS
plot for [i=1:N] DATA index i-1 using 1:2:3:4 with yerrorbars linecolor rgb COLOUR[i] linewidth 1 pointtype 0 notitle, \
     for [i=1:N] DATA index i-1 using 1:2 with linespoints linecolor rgb COLOUR[i] linewidth 1.6 pointtype POINT[i] notitle
